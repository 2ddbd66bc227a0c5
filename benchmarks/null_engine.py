"""A runner whose engine does nothing: an attempt has ended as soon as it has begun."""

from raytes.attempt import Assignment, Update
from raytes.config import Settings
from raytes.models import TesState
from raytes.runner.actor import Runner
from raytes.runner.report import Report
from raytes.runner.streams import Tail


class NullRunner(Runner):
    """Runs no containers. What it says of an attempt is what is said of `true`."""

    def __init__(
        self, settings: Settings, instance: str, runner_id: str, store_name: str, shape: str
    ) -> None:
        super().__init__(settings, instance, runner_id, store_name, shape)
        self._tail_bytes = settings.log_tail_bytes

    async def run(self, assignment: Assignment) -> Update:
        """The last update of an attempt with one executor."""
        report = Report(assignment.task_id, assignment.attempt, self._send)
        index = report.executor_started(Tail(self._tail_bytes), Tail(self._tail_bytes))
        report.executor_ended(index, exit_code=0)
        return report.last(TesState.COMPLETE)

    def _prepare_node(self) -> None:
        """There is nothing to prepare."""
