"""Task folders, manifests and Dockerfiles that somebody else has written."""

from __future__ import annotations

from collections.abc import Sequence

from kit import fuzz_targets
from kit.fuzz import fuzzed, mutated
from kit.fuzz_targets import TASKS

YAML = [
    b"&a ", b"*a", b"<<: *a", b"<<: [1]", b"? [a, b]\n: c\n", b"!!python/object:os.system ", b"!!binary ", b"!!set ", b"!!float nan",
    b"!!timestamp ", b"!!int ''", b"2001-99-99", b"0x", b"1:99:99", b".inf", b"-.inf", b"~", b"|", b">", b"---\n", b"...\n", b"%YAML 9.9\n", b"{", b"}",
    b"[" * 300, b"- " * 300, b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b'"\\ud800"', b'"\\0"', b"'", b": ", b"\n", b"  ",
    b"9" * 5000, b"1e400", b"/../", b"/tg", b"terminal_gym:", b"services:", b"${X}", b"${", b"$", b"${X:-y}", b"${X:?}", b"expected: [x]",
    b"healthcheck: {test: [NONE]}", b"environment: [1]", b"depends_on: {a: 1}", b"image: ''", b"build: []", b"ports: [1:2]", b"command: 1",
]  # fmt: skip
TOML = [
    b"[", b"]", b"[[", b"]]", b"[a.b]", b"[[a.b]]", b"[a]\n", b"a.b.c = 1\n", b'"" = 1\n', b"'''", b'"""', b"= ", b"inf", b"nan", b"-0",
    b"1979-05-27T07:32:00Z", b"{", b"}", b"{a = {b = 1}}", b"\\u0000", b"\\ud800", b"\0", b"\xff", b"[" * 300, b"9" * 5000, b"true", b'""',
    b"[[steps]]\n", b"[environment]\n", b"[verifier]\n", b"[metadata]\n", b"[agent]\n", b"schema_version = 1\n", b"/../",
]  # fmt: skip
PYTHON = [
    b"(" * 300,
    b"-" * 30_000,
    b"f'{",
    b"\0",
    b"\xff",
    b"# coding: latin-9\n",
    b"import a.b\n",
    b"from . import x\n",
    b"'/tests'",
    b"\n",
]
DOCKERFILE = [b"FROM", b"AS", b"\\\n", b"#", b"\0", b"\xff", b"\n", b"RUN <<X\n"]
INFO = [b"{", b"[" * 3000, b"9" * 5000, b"NaN", b"\xff", b'"\\ud800"']
MANIFEST = [b'{"task": "a/b"}\n', b'{"path": "x"}', b'"image": "sha256:', b"null", b"[]", b'"', *INFO]


def _task(
    folder: str, file: str, words: list[bytes], *, examples: int, known: Sequence[bytes] = ()
) -> object:
    target = fuzz_targets.task_file(folder, file)
    return fuzzed(mutated([(TASKS / folder / file).read_bytes()], words), examples=examples, known=known)(
        target
    )


test_terminal_bench = _task("hello", "task.yaml", YAML, examples=60)
test_script_task = _task("bench1-shop", "task.yaml", YAML, examples=40)
test_compose = _task("bench1-shop", "docker-compose.yaml", YAML, examples=80)
test_keystrokes = _task("bench1-shop", "solution.yaml", YAML, examples=40)
test_tests = _task("bench1-note", "tests/test_outputs.py", PYTHON, examples=30, known=[b"-" * 30_000 + b"1"])
test_image = _task("bench1-note", "Dockerfile", DOCKERFILE, examples=30)
test_released = _task("task_17", "item_info.json", INFO, examples=30, known=[b'{"a": ' + b"9" * 5000 + b"}"])
test_harbor = _task("bench2-note", "task.toml", TOML, examples=60)
test_harbor_steps = _task("bench2-trail", "task.toml", TOML, examples=60)
test_manifest = fuzzed(mutated([b'{"task": "TerminalTraj/a"}\n{"path": "b"}\n'], MANIFEST), examples=100)(
    fuzz_targets.manifest
)
test_dockerfile = fuzzed(
    mutated([b"FROM a AS b\nRUN echo \\\n  x\nCOPY --from=b /x /y\n"], DOCKERFILE), examples=100
)(fuzz_targets.dockerfile)
