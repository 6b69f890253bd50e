"""The command line. A command imports what it needs when it runs, so that ``ekiben --help`` is quick."""

from ekiben.cli.app import main

__all__ = ["main"]
