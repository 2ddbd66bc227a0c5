import pytest

from raytes.cli.exits import Exit, of_command, of_states
from raytes.models import TesExecutor, TesExecutorLog, TesState, TesTask, TesTaskLog


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["COMPLETE", "COMPLETE"], Exit.COMPLETE),
        (["COMPLETE", "CANCELED"], Exit.CANCELED),
        (["CANCELED", "EXECUTOR_ERROR"], Exit.FAILED),
        (["PREEMPTED", "CANCELED", "EXECUTOR_ERROR"], Exit.PREEMPTED),
        (["PREEMPTED", "SYSTEM_ERROR"], Exit.SYSTEM_ERROR),
        (["EXECUTOR_ERROR", "SYSTEM_ERROR", "COMPLETE"], Exit.SYSTEM_ERROR),
    ],
)
def test_the_gravest_state_of_several_tasks_decides(states: list[str], code: Exit) -> None:
    assert of_states(TesState(state) for state in states) is code


def ended(state: TesState, *exit_codes: int) -> TesTask:
    logs = [TesExecutorLog(exit_code=code) for code in exit_codes]
    return TesTask(
        state=state,
        executors=[TesExecutor(image="alpine", command=["true"])],
        logs=[TesTaskLog(logs=logs, outputs=[])],
    )


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (ended(TesState.COMPLETE, 0), 0),
        (ended(TesState.EXECUTOR_ERROR, 42), 42),
        (ended(TesState.EXECUTOR_ERROR, 137), 137),
        (ended(TesState.EXECUTOR_ERROR), 1),
        (ended(TesState.EXECUTOR_ERROR, -1), 1),
        (ended(TesState.SYSTEM_ERROR, 3), 70),
        (ended(TesState.CANCELED, 137), 130),
        (ended(TesState.PREEMPTED, 137), 75),
    ],
)
def test_a_command_that_failed_has_its_own_exit_code(task: TesTask, code: int) -> None:
    assert of_command(task) == code
