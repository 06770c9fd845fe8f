"""Reads a task's tests without running them: what judges nothing, what trusts the agent, what is not steady.

It does *not* prove a validator sound: it knows the shapes that went wrong before.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or risky in a task folder."""

    severity: Severity  # error: cannot work or judges nothing; warning: risky; note: worth knowing
    rule: str
    path: Path
    line: int | None
    what: str
    advice: str


@dataclass(frozen=True)
class TestFile:
    """One parsed file of tests."""

    __test__ = False  # not one of pytest's own

    path: Path
    tree: ast.Module
    siblings: frozenset[str]  # modules that the tests folder brings along

    def finding(self, severity: Severity, rule: str, node: ast.AST, what: str, advice: str) -> Finding:
        return Finding(severity, rule, self.path, getattr(node, "lineno", None), what, advice)


# A call to one of these runs, unpickles or loads what the agent may have written, inside the judging process.
IN_PROCESS = {
    "exec", "eval", "__import__", "importlib.import_module", "importlib.util.spec_from_file_location",
    "runpy.run_path", "runpy.run_module", "pickle.load", "pickle.loads", "marshal.load", "marshal.loads",
    "shelve.open", "ctypes.CDLL", "sys.path.insert", "sys.path.append", "sys.path.extend",
    "yaml.load", "yaml.unsafe_load", "joblib.load", "torch.load",
}  # fmt: skip
AMBIENT = {
    "locale.setlocale": "the image may lack that locale",
    "time.tzset": "the image may lack time zones",
    "time.sleep": "it is too long on good days and too short on bad ones",
}
URL = re.compile(r"(?:https?|ftp|git)://(?!localhost|127\.|0\.0\.0\.0|\[::1\]|\{)([\w.-]+)")
DOWNLOADS = re.compile(r"\b(pip3? install|apt(-get)? (update|install)|apk add|npm install|uv add)\b")


def lint_test_file(path: Path, siblings: frozenset[str]) -> list[Finding]:
    """Return what is wrong in one file of tests; text that is no Python is one error."""
    try:
        file = TestFile(path, ast.parse(path.read_bytes(), str(path)), siblings)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return [Finding("error", "not-python", path, line, f"not Python: {error}", "Mend the syntax there.")]
    return [finding for rule in RULES for finding in rule(file)]


@functools.cache
def imports_agent_code(tests: Path) -> bool:
    """Whether a file below `tests` may run, in its own process, what an agent wrote; what is no Python cannot."""
    found: list[Finding] = []
    for path in sorted(tests.rglob("*.py")):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            found += _runs_agent_code(TestFile(path, ast.parse(path.read_bytes(), str(path)), frozenset()))
    return bool(found)


def test_names(tree: ast.Module) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return the tests that pytest would collect, by the part of the node id after the file."""
    names: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            names.append((node.name, node))
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            inner = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test")]
            names += [(f"{node.name}::{n.name}", n) for n in inner]
    return names


def _asserts_nothing(file: TestFile) -> Iterator[Finding]:
    local = {node.name: node for node in ast.walk(file.tree) if isinstance(node, ast.FunctionDef)}
    for name, node in test_names(file.tree):
        if not _claims(node, local, set()):
            yield file.finding(
                "error", "no-assert", node, f"{name} asserts nothing", "Assert what must hold, or remove it."
            )


def _claims(node: ast.AST, local: dict[str, ast.FunctionDef], seen: set[str]) -> bool:
    """Whether `node`, or a function of the same file that it calls, can fail on purpose."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assert | ast.Raise):
            return True
        if not isinstance(part, ast.Call):
            continue
        called = ast.unparse(part.func)
        last = called.rpartition(".")[2]
        if last.startswith("assert") or called in ("pytest.raises", "pytest.fail", "sys.exit"):
            return True
        if any(
            k.arg == "check" and isinstance(k.value, ast.Constant) and k.value.value for k in part.keywords
        ):
            return True
        if last in ("check_call", "check_output", "check_returncode"):
            return True
        if last in local and last not in seen and _claims(local[last], local, seen | {last}):
            return True
    return False


def _runs_agent_code(file: TestFile) -> Iterator[Finding]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in IN_PROCESS:
            what = f"{called} may run what the agent wrote inside the judge (inprocess-unsafe)"
            advice = "Run it as a program of its own, with subprocess, and judge what it prints."
            yield file.finding("warning", "inprocess-unsafe", node, what, advice)


def _imports(file: TestFile) -> Iterator[Finding]:
    known = sys.stdlib_module_names | {"pytest", "_pytest", "tg_remote"} | file.siblings
    for node in ast.walk(file.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            if name.partition(".")[0] not in known:
                what = f"imports {name}, which the trusted runtime does not hold"
                advice = "Use the standard library, or run the image's own Python with subprocess."
                yield file.finding("error", "foreign-import", node, what, advice)


def _network(file: TestFile) -> Iterator[Finding]:
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        found = URL.search(node.value) or DOWNLOADS.search(node.value)
        if found:
            what = f"reaches for the network: {found[0]!r}"
            yield file.finding("warning", "network", node, what, "Judge without it; verifiers have none.")


def _ambient(file: TestFile) -> Iterator[Finding]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in AMBIENT:
            what = f"{called}: {AMBIENT[called]}"
            yield file.finding("warning", "unsteady", node, what, "Judge a fact that needs neither.")


RULES: tuple[Callable[[TestFile], Iterator[Finding]], ...] = (
    _asserts_nothing, _runs_agent_code, _imports, _network, _ambient,
)  # fmt: skip
