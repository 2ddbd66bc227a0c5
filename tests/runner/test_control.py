from collections.abc import Callable

import pytest

from raytes.errors import Canceled, DiskFull
from raytes.runner.control import Control


def test_what_runs_is_killed_once() -> None:
    control = Control()
    killed: list[str] = []
    with control.killing(lambda: killed.append("it")):
        control.cancel()
        control.cancel()
    assert killed == ["it"]
    assert control.canceled


def test_nothing_is_begun_after_the_order_to_end() -> None:
    control = Control()
    control.shut_down()
    with pytest.raises(Canceled), control.killing(lambda: None):
        pytest.fail("it was begun")
    assert not control.canceled


def test_an_attempt_recovers_from_a_failure() -> None:
    control = Control()
    failure = DiskFull("too much")
    control.fail(failure)
    assert control.failure is failure
    with pytest.raises(Canceled):
        control.check()
    control.recover()
    control.check()
    assert control.failure is None


@pytest.mark.parametrize("order", [Control.cancel, Control.shut_down])
def test_an_order_to_end_outweighs_a_failure(order: Callable[[Control], None]) -> None:
    control = Control()
    control.fail(DiskFull("too much"))
    order(control)
    assert control.failure is None
    control.recover()
    with pytest.raises(Canceled):
        control.check()
