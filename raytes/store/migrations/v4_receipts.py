"""`receipts`: what takes back what an attempt has staged of its outputs."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "receipts",
        sa.Column("task_id", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("url", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )
