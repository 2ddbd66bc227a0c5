"""Moments as TES writes them: RFC 3339, in UTC. As text they sort by time."""

from datetime import UTC, datetime


def now() -> str:
    """This moment, to the millisecond."""
    return as_text(datetime.now(UTC))


def as_text(moment: datetime) -> str:
    """A moment in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
