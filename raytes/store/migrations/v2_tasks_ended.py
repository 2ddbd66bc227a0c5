"""`tasks.ended`: when a task reached its final state, for retention by age."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"

# That of the last attempt's log; what was cancelled in the queue has none. (For SQLite alone: no
# database of this age is in PostgreSQL.)
_FILL = """
    UPDATE tasks SET ended = coalesce(
        (SELECT json_extract(CAST(log AS TEXT), '$.end_time')
         FROM attempts WHERE task_id = tasks.id AND number = tasks.attempt),
        created)
    WHERE state IN ('COMPLETE', 'EXECUTOR_ERROR', 'SYSTEM_ERROR', 'CANCELED', 'PREEMPTED')
"""


def upgrade() -> None:
    """Add the column with its index, and fill it."""
    op.add_column("tasks", sa.Column("ended", sa.Text))
    op.execute(_FILL)
    op.create_index("tasks_by_end", "tasks", ["ended"], sqlite_where=sa.text("ended IS NOT NULL"))
