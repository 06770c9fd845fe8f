"""What can be wrong with a written validator, found without running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence

_NETWORK = {
    "socket",
    "urllib",
    "http",
    "ftplib",
    "ssl",
    "smtplib",
    "imaplib",
    "poplib",
    "telnetlib",
    "xmlrpc",
    "asyncio",
}
_CHANCE = {"random", "secrets", "uuid"}
_CLOCK = {("time", "time"), ("time", "sleep"), ("datetime", "now"), ("datetime", "today"), ("date", "today"),
          ("datetime", "utcnow"), ("time", "monotonic"), ("time", "localtime"), ("time", "ctime")}  # fmt: skip
_WRITES = {
    "write_text",
    "write_bytes",
    "unlink",
    "mkdir",
    "touch",
    "rename",
    "rmtree",
    "symlink_to",
    "chmod",
    "remove",
}
_THERE = {"exists", "is_file", "is_dir", "isfile", "isdir"}  # an empty file satisfies them
_COMMANDS = ("bash_history", "HISTFILE", ".zsh_history")


def problems(tests: str, outputs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (reason, what was found) for each rule that the text of test_outputs.py breaks.

    Reasons: bad-tests, no-assert, network, time, order, commands, empty-file, output-unread.
    """
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield "bad-tests", f"not Python: {error}"
        return
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test")]
    if not functions:
        yield "no-assert", "defines no test function"
    for function in functions:
        asserts = [one for one in ast.walk(function) if isinstance(one, ast.Assert)]
        if not asserts or all(_says_nothing(one.test) for one in asserts):
            yield "no-assert", f"{function.name} asserts nothing"
    asserted = [
        one.test for function in functions for one in ast.walk(function) if isinstance(one, ast.Assert)
    ]
    if asserted and all(_says_nothing(one) or _only_there(one) for one in asserted):
        yield "empty-file", "every assertion holds for an empty file"
    yield from _imports(tree)
    yield from _calls(tree)
    yield from _order(tree, functions)
    for word in _COMMANDS:
        if word in tests:
            yield "commands", f"looks at {word}"
    for path in outputs:
        if path not in tests:
            yield "output-unread", f"no test names {path}"


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        for name in names:
            top = name.partition(".")[0]
            if top in _NETWORK:
                yield "network", f"imports {name}"
            elif top in _CHANCE:
                yield "order", f"imports {name}: chance"
            elif top not in sys.stdlib_module_names and top != "pytest":
                yield "bad-tests", f"imports {name}: only the standard library and pytest are there"


def _calls(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = (
                owner.id
                if isinstance(owner, ast.Name)
                else owner.attr
                if isinstance(owner, ast.Attribute)
                else ""
            )
            if (name, node.func.attr) in _CLOCK:
                yield "time", f"calls {name}.{node.func.attr}"
            if node.func.attr in _WRITES:
                yield "order", f"line {node.lineno} changes files ({node.func.attr})"
        for one in ast.walk(node):
            said = one.value if isinstance(one, ast.Constant) and isinstance(one.value, str) else ""
            if said in ("curl", "wget") or said.startswith(("curl ", "wget ", "http://", "https://")):
                yield "network", f"line {node.lineno} calls {said[:60]!r}"
        if isinstance(node.func, ast.Name) and node.func.id == "open" and _opens_to_write(node):
            yield "order", f"line {node.lineno} writes a file"


def _order(tree: ast.Module, functions: Sequence[ast.FunctionDef]) -> Iterator[tuple[str, str]]:
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                yield "order", f"{function.name} shares {', '.join(node.names)} with other tests"


def _opens_to_write(call: ast.Call) -> bool:
    given = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
    return any(isinstance(one, ast.Constant) and set(str(one.value)) & set("wax+") for one in given)


def _says_nothing(test: ast.expr) -> bool:
    """Whether no state of the machine can change it."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        return any(_says_nothing(one) for one in test.values)
    return not any(isinstance(one, ast.Call | ast.Name | ast.Attribute) for one in ast.walk(test))


def _only_there(test: ast.expr) -> bool:
    """Whether it asks no more than that something is there."""
    if isinstance(test, ast.BoolOp):
        return all(_only_there(one) for one in test.values)
    return isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute) and test.func.attr in _THERE
