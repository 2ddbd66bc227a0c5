"""An index of the queued tasks by owner and shape, from which the dispatcher fetches the oldest."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Make the index."""
    columns = ["owner", "shape", "id", "state"]
    op.create_index("tasks_waiting", "tasks", columns, sqlite_where=sa.text("state = 'QUEUED'"))
