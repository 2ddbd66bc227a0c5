"""`python -m raytes`: the command line."""

from raytes.cli import main

main()
