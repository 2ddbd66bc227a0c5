"""Dispatch: which task runs next, and on which leased runner."""
