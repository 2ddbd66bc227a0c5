"""Clients as their authors publish them, against a running service."""

from pathlib import Path

PROGRAMS = Path(__file__).with_name("programs")
"""What the clients run: programs and workflows of their own languages."""
