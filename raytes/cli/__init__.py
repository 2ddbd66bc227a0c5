"""What a person types: `raytes serve`, and the commands that talk to a TES server.

stdout carries data (ids, documents, what a task wrote), stderr carries progress and mistakes.
"""

from raytes.cli import cache, commands, prune, serve
from raytes.cli.app import app as main

__all__ = ["cache", "commands", "main", "prune", "serve"]
