"""Imports point down: never up, never across a floor, never hidden inside a function."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmarks", "training", "env_registry", "terminal_gym")
FLOORS = (  # top floor first; rooms on one floor never import one another
    {"benchmarks", "training", "env_registry"},
    {"terminal_gym.cli"},
    {
        "terminal_gym.harbor"
    },  # plays an episode of `rollout` and writes an ATIF of `export`, for a foreign harness
    {
        "terminal_gym.rollout",
        "terminal_gym.viewer",
        "terminal_gym.vector_env",
        "terminal_gym.registration",
        "terminal_gym.export",
    },
    {"terminal_gym.env", "terminal_gym.agents"},
    {
        "terminal_gym.validation",
        "terminal_gym.machine",
        "terminal_gym.checkpoint",
        "terminal_gym.llm",
        "terminal_gym.spaces",
        "terminal_gym.render",
    },
    {"terminal_gym.sandbox", "terminal_gym.terminal"},
    {"terminal_gym.tasks", "terminal_gym.trajectory", "terminal_gym.trusted_runtime"},
    {"terminal_gym.errors"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {"terminal_gym": {"terminal_gym.registration"}}  # a package root imports its own door only
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def room_of(module: str) -> str | None:
    return next((r for r in FLOOR_OF if module == r or module.startswith(f"{r}.")), None)


def imported_by(path: Path) -> set[str]:
    """Absolute names imported anywhere in the file; a relative import is an error."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    others = {room_of(name) for name in imported_by(path)} - {None, here}
    floor = FLOOR_OF.get(here or "", len(FLOORS))  # a file in no room may import no room but its door
    others -= DOORS.get(path.parent.name, set()) if path.name == "__init__.py" else set()
    wrong = sorted(room for room in others if room and FLOOR_OF[room] <= floor)
    assert not wrong, f"{here or path} must not import {wrong}"


def test_no_files_import_each_other_in_a_circle() -> None:
    module_of = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES}
    known = set(module_of.values())
    arrows = {
        module_of[path]: {
            module
            for name in imported_by(path)
            for module in (name, name.rpartition(".")[0])
            if module in known
        }
        for path in FILES
    }
    while free := {module for module, others in arrows.items() if not others & arrows.keys() - {module}}:
        arrows = {module: others for module, others in arrows.items() if module not in free}
    assert not arrows, f"each of these reaches a circle: {sorted(arrows)}"
