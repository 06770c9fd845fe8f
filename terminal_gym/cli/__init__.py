"""`tgym`: the words typed by a person. Exit codes: 0 passed, 1 failed, 2 usage, 3 broken."""

from terminal_gym.cli.app import main

__all__ = ["main"]
