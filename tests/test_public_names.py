"""What is public is documented: names have docstrings, commands have help and a place in the docs."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import typer.main

import terminal_gym
from terminal_gym.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
DOCS = "\n".join(page.read_text("utf-8") for page in PAGES)
MODULES = ("terminal_gym", "terminal_gym.cli")


def commands(group: object, words: str = "tgym") -> dict[str, object]:
    """Every command below `group`: full name → command."""
    inner = getattr(group, "commands", None)
    if inner is None:
        return {words: group}
    return {k: v for name, child in inner.items() for k, v in commands(child, f"{words} {name}").items()}


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_exists_and_is_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    assert inspect.getdoc(loaded)
    assert sorted(loaded.__all__) == sorted(set(loaded.__all__))
    for name in loaded.__all__:
        value = getattr(loaded, name)
        assert name.startswith("__") or inspect.getdoc(value), f"{module}.{name} has no docstring"


def test_public_functions_are_named_in_the_docs() -> None:
    missing = [n for n in terminal_gym.__all__ if not n.startswith("__") and f"terminal_gym.{n}" not in DOCS]
    assert not missing, f"docs/ and README.md do not mention {missing}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_place_in_the_docs(name: str) -> None:
    command = COMMANDS[name]
    assert getattr(command, "help", None), f"{name} has no help"
    silent = [p.name for p in command.params if p.param_type_name == "option" and not p.help]
    assert not silent, f"{name}: options without help: {silent}"
    assert re.search(rf"`?{re.escape(name)}\b", DOCS), f"no page mentions `{name}`"


def test_every_error_says_whose_fault_it_is() -> None:
    from terminal_gym import errors

    kinds = [errors.TaskError, errors.SandboxError, errors.ModelError, errors.StoreError, errors.UsageError]
    for name, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, errors.TerminalGymError) and error is not errors.TerminalGymError:
            assert sum(issubclass(error, kind) for kind in kinds) == 1, name
            assert error in kinds or len(error.__mro__) > 4 or len(error.__bases__) > 1, (
                f"{name}: no builtin base"
            )
