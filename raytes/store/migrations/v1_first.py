"""The first schema. New databases are made from `raytes.store.schema`, so nothing is left to do."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Where the other steps begin."""
