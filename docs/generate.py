"""Writes the pages in docs/reference from the code: `python -m docs.generate`."""

from collections.abc import Iterator
from pathlib import Path

import typer.core
from pydantic.fields import FieldInfo

from raytes.cli import main
from raytes.cli.exits import MEANINGS
from raytes.config import LocalRoot, Settings
from raytes.failures import FAILURES

REFERENCE = Path(__file__).parent / "reference"

_SETTINGS = """\
# Settings

A value comes from, strongest first: the command line of `raytes serve`, the environment (`RAYTES_`
and the setting's name in capitals: `RAYTES_MAX_RETRIES=0`), the TOML file that `--config` or
`RAYTES_CONFIG` names, the default.

In the environment a list has commas between its parts (`RAYTES_SCHEMES=file,s3`; or it is JSON),
`RAYTES_LOCAL_ROOT` is one or more directories with `:` between them, and `RAYTES_STORAGE` is JSON.
A time is in seconds, or has a unit: `"90s"`, `"15m"`, `"12h"`, `"30d"`, `"8w"`.
"""

_ROOTS = """\
## A local root

In TOML a root is a path (`local_root = ["/data"]`) or a table (`[[local_root]]`):
"""

_COMMANDS = """\
# The command line

stdout carries data (ids, documents, what a task wrote), stderr carries progress and mistakes.

## Exit codes
"""


_FAILURES = """\
# Why a task failed

`metadata.failure_reason` of an attempt that failed is one of these, and `system_logs` of the same
attempt has a sentence with it. After a fault that may pass there is another attempt, up to
`max_retries` of them, with an entry of its own in `logs`: it is the last that counts.
"""


def pages() -> dict[Path, str]:
    """The generated pages, by where they stand."""
    return {
        REFERENCE / "settings.md": _page(_SETTINGS, *_settings()),
        REFERENCE / "command-line.md": _page(_COMMANDS, *_commands()),
        REFERENCE / "failures.md": _page(_FAILURES, _failures()),
    }


def _settings() -> Iterator[str]:
    yield _fields(Settings.model_fields)
    yield _ROOTS
    yield _fields(LocalRoot.model_fields)


def _fields(fields: dict[str, FieldInfo]) -> str:
    rows = [
        (f"`{name}`", _default(field), field.description or "") for name, field in fields.items()
    ]
    return _table(("Setting", "Default", "Meaning"), rows)


def _default(field: FieldInfo) -> str:
    if field.is_required() or field.default is None or field.default in ((), {}):
        return ""
    default = field.default
    text = ", ".join(default) if isinstance(default, tuple) else str(default)
    return f"`{text.lower() if isinstance(default, bool) else text}`"


def _commands() -> Iterator[str]:
    codes = [(f"{code.value}", f"{meaning}.") for code, meaning in MEANINGS.items()]
    yield _table(("Code", "Meaning"), codes)
    group = typer.main.get_command(main)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        yield f"## raytes {name}\n\n{_unwrapped(command.help)}\n"
        rows = [_parameter(parameter) for parameter in command.params]
        yield _table(("Argument", "Default", "Meaning"), rows)


def _failures() -> str:
    rows = [
        (f"`{code}`", one.meaning, one.tried_again, one.advice) for code, one in FAILURES.items()
    ]
    return _table(("Code", "Meaning", "Tried again", "What to do"), rows)


def _parameter(parameter: typer.core.TyperOption | typer.core.TyperArgument) -> tuple[str, ...]:
    metavar = parameter.metavar or ""
    if isinstance(parameter, typer.core.TyperArgument):
        several = " …" if parameter.nargs == -1 else ""
        return f"`{metavar}{several}`", "", f"{parameter.help}"
    names = "`, `".join((*parameter.opts, *parameter.secondary_opts))
    default = parameter.show_default if isinstance(parameter.show_default, str) else ""
    if not default and isinstance(parameter.default, str | int) and not parameter.is_flag:
        default = str(parameter.default)
    return (
        f"`{names} {metavar}".rstrip() + "`",
        f"`{default}`" if default else "",
        str(parameter.help),
    )


def _unwrapped(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "\n".join(f"| {line} |" for line in cells) + "\n"


def _page(*parts: str) -> str:
    return "\n".join(parts)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
