"""Static lint of one task folder: what would break, leak or judge nothing, without starting anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.harness import ScriptSpec
from terminal_gym.tasks.lint_tests import Finding, Severity, lint_test_file, test_names
from terminal_gym.tasks.task import Task, is_excluded

LEAK_LINES = 3  # distinct lines of tests or solution in one file of the build context
LINE_CHARS = 24  # a shorter line is too common to tell anything
RANK: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


def lint(folder: Path) -> list[Finding]:
    """Return what is wrong in a task folder, worst first; [] where nothing is. Whatever it holds, it does not raise."""
    try:
        task = read_folder(folder)
        rules = RULES if task.strict.calibrated is None else FOREIGN
        found = [finding for rule in rules for finding in rule(task)]
    except BadTaskFormat as error:
        what, _, advice = str(error).partition(": ")[2].partition(". ")
        named = f"{error.field}: {what}" if error.field else what
        return [Finding("error", "bad-format", error.path, error.line, named, advice)]
    except (OSError, ValueError, RecursionError) as error:
        # What no reader foresaw: a table of thousands goes on all the same.
        what = f"cannot be read: {type(error).__name__}: {error}"
        return [Finding("error", "unreadable", folder, None, what, "Look at the file that is named.")]
    return sorted(found, key=lambda f: (RANK[f.severity], str(f.path), f.line or 0))


def _tests(task: Task) -> Iterator[Finding]:
    paths = sorted(task.validator.tests.rglob("*.py"))
    modules = frozenset(path.relative_to(task.validator.tests).parts[0].removesuffix(".py") for path in paths)
    for path in paths:
        yield from lint_test_file(path, modules)
        if path.name == "conftest.py" and not task.validator.own_conftest:
            yield Finding(
                "warning", "conftest", path, None, "is not loaded", "Set own_conftest: true, or remove it."
            )


def _expected(task: Task) -> Iterator[Finding]:
    """Compare the ids fixed beforehand with those that the files define."""
    defined = set(_defined(task.validator.tests))
    yaml = task.folder / "task.yaml"
    if not defined:
        yield Finding(
            "error", "no-tests", task.validator.tests, None, "defines no test", "Write a test_ function."
        )
    wanted = {node.partition("[")[0] for node in task.validator.expected}
    for node in sorted(wanted - defined if defined else ()):
        yield Finding(
            "error", "expected", yaml, None, f"expects {node}, which no file defines", "Mend the id."
        )
    for node in sorted(defined - wanted if wanted else ()):
        yield Finding(
            "error", "expected", yaml, None, f"{node} is not expected", "List it, or remove the test."
        )
    if not wanted:
        advice = (
            "List them under terminal_gym.expected; until then they are collected once in a pristine sandbox."
        )
        yield Finding("note", "expected", yaml, None, "no test ids are fixed beforehand", advice)


def _defined(tests: Path) -> Iterator[str]:
    for path in sorted(tests.rglob("*.py")):
        if not (path.name.startswith("test_") or path.stem.endswith("_test")):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # reported by lint_test_file
        yield from (f"{path.relative_to(tests).as_posix()}::{name}" for name, _ in test_names(tree))


def _solutions(task: Task) -> Iterator[Finding]:
    if task.solution is None:
        advice = "Add solution.sh: without one nobody can show that the task is solvable."
        yield Finding("warning", "no-oracle", task.folder, None, "no reference solution", advice)
    if task.partial is None:
        advice = "Add partial.sh, which does some of the work and must not pass."
        yield Finding("note", "no-partial", task.folder, None, "no partial solution", advice)


def _instruction(task: Task) -> Iterator[Finding]:
    yaml = task.folder / "task.yaml"
    for path in task.validator.artifacts:
        if path not in task.instruction and PurePosixPath(path).name not in task.instruction:
            what = f"the instruction does not name the artifact {path}"
            yield Finding("warning", "unnamed-artifact", yaml, None, what, "Say where the result must be.")
    if task.metadata.get("difficulty") is None:
        advice = "Write easy, medium, hard or unknown: upstream refuses the task without it."
        yield Finding("note", "difficulty", yaml, None, "no difficulty", advice)
    if task.metadata.get("run_tests_in_same_shell") is True:
        advice = "Tests see files and processes, never variables of the agent's shell."
        yield Finding("note", "same-shell", yaml, None, "run_tests_in_same_shell is not honoured", advice)


def _leaks(task: Task) -> Iterator[Finding]:
    """Look for text of the tests or the solution in what the agent will find in the image."""
    if task.image.context is None:
        return
    secret = _secret_lines(task)
    for path in sorted(task.image.context.rglob("*")):
        parts = path.relative_to(task.image.context).parts
        if path.is_symlink() or not path.is_file() or is_excluded(parts[0], task.image.exclude):
            continue
        lines = (
            path.read_text("utf-8", errors="replace").splitlines() if path.stat().st_size < 1 << 20 else []
        )
        hits = [number for number, line in enumerate(lines, 1) if line.strip() in secret]
        if len({lines[number - 1].strip() for number in hits}) >= LEAK_LINES:
            what = f"{len(hits)} lines of the tests or the solution enter the image"
            yield Finding("warning", "leak", path, hits[0], what, "Keep them out of the build context.")


def _secret_lines(task: Task) -> set[str]:
    texts = [p.read_text("utf-8", errors="replace") for p in task.validator.tests.rglob("*") if p.is_file()]
    for name in ("solution.sh", "solution.yaml"):
        path = task.folder / name
        texts += [path.read_text("utf-8", errors="replace")] if path.is_file() else []
    lines = {line.strip() for text in texts for line in text.splitlines()}
    return {
        line for line in lines if len(line) >= LINE_CHARS and not line.startswith(("#", "import ", "from "))
    }


def _dockerfile(task: Task) -> Iterator[Finding]:
    path = (task.image.context or task.folder) / task.image.dockerfile
    if not path.is_file():
        return
    copies = re.compile(r"\s*(COPY|ADD)\s+(?:--\S+\s+)*(?:\./)?(tests|solution\S*|partial\S*)(/|\s|$)", re.I)
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if found := copies.match(line):
            what = f"copies {found[2]}, which never enters a build"
            yield Finding("error", "leak", path, number, what, "The agent must not see it; remove the line.")


RULES: tuple[Callable[[Task], Iterator[Finding]], ...] = (
    _tests, _expected, _solutions, _instruction, _leaks, _dockerfile,
)  # fmt: skip


# ── foreign folders: nobody here can change them, so only what keeps them from being run or judged ──────────────────


def _syntax(task: Task) -> Iterator[Finding]:
    for path in sorted(task.validator.tests.rglob("*.py")):
        yield from (f for f in lint_test_file(path, frozenset()) if f.rule == "not-python")


def _script(task: Task) -> Iterator[Finding]:
    """Look whether a script can leave what its format's rules read."""
    for script in task.scripts:
        path = _script_file(script)
        if path is None:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if script.parser == "reward-file" and "reward" not in text:
            advice = (
                "Harbor reads /logs/verifier/reward.txt or reward.json; see that some program writes one."
            )
            yield Finding("note", "no-reward", path, None, "does not speak of a reward file", advice)
        if script.parser == "pytest" and "pytest" in text and not re.search(r"\s-(r\S*A|rA|ra)\b", text):
            advice = (
                "Upstream's parser reads the summary that `pytest -rA` prints, and finds nothing without it."
            )
            yield Finding("warning", "no-summary", path, None, "runs pytest without -rA", advice)
        if "pytest" in text and not any(
            file.is_file() for file in _uploaded(script) if file.name != path.name
        ):
            advice = "pytest ends with code 4 or 5 there, whatever the agent did."
            yield Finding("warning", "no-tests", path, None, "runs pytest, and no test comes with it", advice)
        if "\r\n" in text:
            yield Finding(
                "error", "line-ends", path, 1, "has the line ends of Windows", "bash fails on them."
            )


def _uploaded(script: ScriptSpec) -> Iterator[Path]:
    for source in script.uploads:
        yield from source.rglob("*") if source.is_dir() else (source,)


def _script_file(script: ScriptSpec) -> Path | None:
    name = script.script.rpartition("/")[2]
    places = [source if source.is_file() else source / name for source in reversed(script.uploads)]
    return next((place for place in places if place.is_file() and place.name == name), None)


def _asks(task: Task) -> Iterator[Finding]:
    """Say what a harness gives and this one does not, or does otherwise."""
    if task.metadata.get("network_mode") == "allowlist" or task.metadata.get("allowed_hosts"):
        advice = "Only all or nothing can be given here: the task runs without a network."
        yield Finding("warning", "allowlist", task.folder, None, "asks for an allow-list of hosts", advice)
    if task.metadata.get("run_tests_in_same_shell") is True:
        advice = "Tests see files and processes, never variables of the agent's shell."
        yield Finding(
            "note", "same-shell", task.folder, None, "run_tests_in_same_shell is not honoured", advice
        )
    if not task.has_solution:
        advice = "No oracle can show that it is solvable, or which strict mode fits it."
        yield Finding("note", "no-oracle", task.folder, None, _unsolved(task), advice)


def _unsolved(task: Task) -> str:
    missing = [
        step.name for step, phase in zip(task.steps, task.phases, strict=False) if phase.solution is None
    ]
    if not missing or len(missing) == len(task.steps):
        return "no reference solution"
    return f"no reference solution of step {', '.join(missing)}"


FOREIGN: tuple[Callable[[Task], Iterator[Finding]], ...] = (_syntax, _script, _asks)
