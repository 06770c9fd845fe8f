"""Lint: each rule finds what it is for, and finds nothing in a sound task."""

from pathlib import Path

import pytest
from kit.folders import task_folder

from terminal_gym.tasks.lint import lint

HELLO = Path(__file__).parents[2] / "kit/tasks/hello"
BLOCK = "terminal_gym:\n  expected: [test_outputs.py::test_out]\n"


def rules(folder: Path) -> dict[str, tuple[str, int | None]]:
    return {finding.rule: (finding.severity, finding.line) for finding in lint(folder)}


def with_test(root: Path, body: str) -> Path:
    return task_folder(root, tests__test_outputs_dot_py=body)


def test_a_sound_task_has_no_finding() -> None:
    assert lint(HELLO) == []


def test_a_folder_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    (finding,) = lint(task_folder(tmp_path, yaml="instruction: a\nparser_name: x\n"))
    assert (finding.severity, finding.rule, finding.line) == ("error", "bad-format", 2)
    assert finding.advice


@pytest.mark.parametrize(
    ("body", "rule", "severity", "line"),
    [
        ("def test_a():\n    print(1)\n", "no-assert", "error", 1),
        ("x = 1\n", "no-tests", "error", None),
        ("def test_a(:\n", "not-python", "error", 1),
        (
            "import sys\nsys.path.insert(0, '/app')\ndef test_a(): assert 1\n",
            "inprocess-unsafe",
            "warning",
            2,
        ),
        (
            "import pickle\ndef test_a(): assert pickle.load(open('/app/x', 'rb'))\n",
            "inprocess-unsafe",
            "warning",
            2,
        ),
        ("import numpy as np\ndef test_a(): assert np\n", "foreign-import", "error", 1),
        ("from solution import f\ndef test_a(): assert f()\n", "foreign-import", "error", 1),
        ("def test_a():\n    u = 'https://example.org/x'\n    assert u\n", "network", "warning", 2),
        ("def test_a():\n    c = 'pip install numpy'\n    assert c\n", "network", "warning", 2),
        ("import locale\ndef test_a():\n    assert locale.setlocale(0, 'de_DE')\n", "unsteady", "warning", 3),
        ("import time\ndef test_a():\n    time.sleep(1)\n    assert 1\n", "unsteady", "warning", 3),
    ],
)
def test_each_rule_on_tests(tmp_path: Path, body: str, rule: str, severity: str, line: int | None) -> None:
    assert rules(with_test(tmp_path, body)).get(rule) == (severity, line)


@pytest.mark.parametrize(
    "body",
    [
        "def check(x):\n    assert x\ndef test_a():\n    check(1)\n",
        "import pytest\ndef test_a():\n    with pytest.raises(OSError):\n        open('/x')\n",
        "import subprocess\ndef test_a():\n    subprocess.run(['x'], check=True)\n",
        "class TestA:\n    def test_a(self):\n        assert 1\n",
        "def loop():\n    loop()\ndef test_a():\n    loop()\n    assert 1\n",
        "def test_a():\n    assert 'http://localhost:80/' and 'http://127.0.0.1/'\n",
    ],
)
def test_sound_tests_are_left_alone(tmp_path: Path, body: str) -> None:
    assert {s for s, _ in rules(with_test(tmp_path, body)).values()} <= {"note"} | {"warning"}
    assert set(rules(with_test(tmp_path / "b", body))) <= {"expected", "no-oracle", "no-partial"}


def test_missing_solutions_are_told(tmp_path: Path) -> None:
    assert {"no-oracle", "no-partial"} <= set(rules(task_folder(tmp_path)))


def test_expected_ids_and_files_must_agree(tmp_path: Path) -> None:
    wrong = "terminal_gym:\n  expected: ['test_outputs.py::test_gone', 'test_outputs.py::test_out[1]']\n"
    found = [f for f in lint(task_folder(tmp_path, yaml=f"instruction: x\n{wrong}")) if f.rule == "expected"]
    assert [(f.severity, "test_gone" in f.what) for f in found] == [("error", True)]
    unlisted = task_folder(
        tmp_path / "b",
        yaml=f"instruction: x\n{BLOCK}",
        tests__test_outputs_dot_py="def test_out(): assert 1\ndef test_two(): assert 1\n",
    )
    assert "test_two is not expected" in " ".join(f.what for f in lint(unlisted))


def test_an_artifact_that_the_instruction_hides(tmp_path: Path) -> None:
    block = "terminal_gym: {mode: artifacts, artifacts: [/app/out.txt]}\n"
    assert "unnamed-artifact" in rules(task_folder(tmp_path / "a", yaml=f"instruction: do it\n{block}"))
    assert "unnamed-artifact" not in rules(
        task_folder(tmp_path / "b", yaml=f"instruction: write out.txt\n{block}")
    )


def test_a_solution_that_leaks_into_the_image(tmp_path: Path) -> None:
    secret = "".join(f"echo this is line number {n} of the solution\n" for n in range(4))
    files = {
        "Dockerfile": "FROM a\nCOPY . /app\n",
        "solution_dot_sh": secret,
        "app__notes_dot_md": "hi\n" + secret,
    }
    assert rules(task_folder(tmp_path / "a", **files))["leak"] == ("warning", 2)
    files["app__notes_dot_md"] = "hi\n"
    assert "leak" not in rules(task_folder(tmp_path / "b", **files))
    files["Dockerfile"] = "FROM a\nCOPY --chown=0 ./tests/ /tests\n"
    assert rules(task_folder(tmp_path / "c", **files))["leak"] == ("error", 2)


def test_a_conftest_that_is_not_loaded(tmp_path: Path) -> None:
    assert "conftest" in rules(task_folder(tmp_path, tests__conftest_dot_py=""))
