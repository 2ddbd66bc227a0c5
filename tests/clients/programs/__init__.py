"""What the clients run: programs and workflows of their own languages."""

from pathlib import Path

PROGRAMS = Path(__file__).parent
