"""Features of one code file: how complete it looks, and whether its repository looks as if it could be built.

Numbers only, none of them learned, each explained in FEATURES. The order is that of the model files and of the table.
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from env_registry.pipeline.facts import TextFile

_UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplemented(Error)?|unimplemented|stub|pass)\b")
_ENTRY = re.compile(
    r"(?m)^#!|__name__ *== *['\"]__main__|\b(int|void|func|static void) +main *\(|require\.main"
)
_IMPORT = re.compile(
    r"(?m)^\s*(#\s*include|import\b|from\s+\S+\s+import|use\b|require\b|package\b|const .*require\()"
)
_COMMENT = re.compile(r"^\s*(#|//|/\*|\*|<!--|--)")
_TEST = re.compile(r"(?i)(^|[/_.-])tests?([/_.-]|$)|spec\.|_test\.|^test_")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_BUILD = {
    "pyproject.toml", "setup.py", "setup.cfg", "package.json", "go.mod", "pom.xml", "build.gradle",
    "build.gradle.kts", "makefile", "gnumakefile", "cmakelists.txt", "configure", "configure.ac", "composer.json",
    "dockerfile", "index.html",
}  # fmt: skip
_LOCKS = {"package-lock.json", "yarn.lock", "go.sum", "composer.lock", "poetry.lock", "requirements.txt"}

FEATURES: Mapping[str, str] = {
    "log_characters": "log10 of the file's characters",
    "log_lines": "log10 of its lines that are not blank",
    "mean_line": "mean characters of these lines, over 100",
    "longest_line": "log10 of the longest one: minified or generated code has very long ones",
    "comments": "share of these lines that are comments",
    "unfinished": "TODO, FIXME, NotImplemented and their like, for each 100 lines",
    "imports": "share of these lines that import",
    "entry": "1 where the file can be started: a shebang, a main",
    "unbalanced": "share of brackets without a partner, strings not looked at",
    "parses": "1 where Python parses it, 0 where not, 0.5 for other languages",
    "is_code": "1 for one of the eight languages",
    "is_test": "1 where its path says test or spec",
    "depth": "folders above it",
    "repo_build": "1 where the repository's top has a build file",
    "repo_tests": "1 where the repository has a test",
    "repo_lock": "1 where its dependencies are pinned",
    "repo_docs": "log10 of its README's characters",
    "repo_files": "log10 of its text files",
}


def repository_features(files: list[TextFile]) -> list[float]:
    """Return the last five features, which all files of a repository share."""
    top = {file.path.lower() for file in files if "/" not in file.path}
    readme = max((len(file.text) for file in files if file.path.lower().startswith("readme")), default=0)
    return [
        float(bool(top & _BUILD)),
        float(any(_TEST.search(file.path) for file in files)),
        float(bool(top & _LOCKS)),
        math.log10(1 + readme),
        math.log10(1 + len(files)),
    ]


def file_features(file: TextFile, repository: list[float]) -> list[float]:
    """Return the features of one file, in the order of FEATURES."""
    lines = [line for line in file.text.splitlines() if line.strip()]
    count = max(1, len(lines))

    def share(pattern: Callable[[str], object]) -> float:
        return sum(bool(pattern(line)) for line in lines) / count

    return [
        math.log10(1 + len(file.text)),
        math.log10(1 + len(lines)),
        sum(map(len, lines)) / count / 100,
        math.log10(1 + max(map(len, lines), default=0)),
        share(_COMMENT.match),
        100 * share(_UNFINISHED.search),
        share(_IMPORT.match),
        float(bool(_ENTRY.search(file.text))),
        _unbalanced(file.text),
        _parses(file),
        float(bool(file.language)),
        float(bool(_TEST.search(file.path))),
        float(len(PurePosixPath(file.path).parts) - 1),
        *repository,
    ]


def sample(files: list[TextFile], count: int) -> list[TextFile]:
    """Return at most `count` files, code before anything else, in an order that only their paths decide."""
    code = [file for file in files if file.language] or files
    return sorted(code, key=lambda file: hashlib.sha256(file.path.encode("utf-8", "replace")).digest())[
        :count
    ]


def _unbalanced(text: str) -> float:
    opened: list[str] = []
    brackets = lost = 0
    for sign in text:
        if sign in _PAIRS:
            opened.append(_PAIRS[sign])
            brackets += 1
        elif sign in ")]}":
            brackets += 1
            if opened and opened[-1] == sign:
                opened.pop()
            else:
                lost += 1
    return (lost + len(opened)) / brackets if brackets else 0.0


def _parses(file: TextFile) -> float:
    if file.language != "python":
        return 0.5
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a stranger's escapes
            ast.parse(file.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0.0
    return 1.0
