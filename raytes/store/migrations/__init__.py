"""From one version of the schema to the next, a file a step; `raytes.store.upgrade` runs them.

To change the schema: change `raytes.store.schema`, add one to its VERSION, and write
`v<number>_<what>.py` here, with `revision` and `down_revision` (this number and the one before,
as text) and `upgrade()`, in Alembic's operations. It runs inside the transaction of the whole
upgrade, on databases that may have a million tasks: no loop over rows in Python. Then
`tests/store/test_upgrade.py` holds what comes out of it against `raytes.store.schema`.
A step that was released is never changed.
"""
