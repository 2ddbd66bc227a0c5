"""A time on the command line."""

import typer


def seconds(text: str) -> float:
    """`90`, `90s`, `15m`, `12h`, `30d` or `8w` in seconds; anything else ends the command."""
    from pydantic import TypeAdapter, ValidationError

    from raytes.config import Duration

    try:
        return TypeAdapter(Duration).validate_python(text)
    except ValidationError:
        raise typer.BadParameter(
            f"{text!r} is not a time: say seconds, 0 or more, or 15m, 12h, 30d, 8w"
        ) from None
