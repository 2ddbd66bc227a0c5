"""The task store: the database, and the one actor that writes it."""
