import pytest

from raytes.cli import main

COMMANDS = ["wait --timeout={} id", "drain --timeout={} node", "prune --older-than={}"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("time", ["-5", "-5s", "nan", "inf", "1e300", "soon", ""])
def test_what_is_no_time_is_a_mistake_in_usage_that_says_what_is_one(
    command: str, time: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(command.format(time).split(" "))
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{time!r} is not a time: say seconds, 0 or more, or 15m, 12h, 30d, 8w" in said
