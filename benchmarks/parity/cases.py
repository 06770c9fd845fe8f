"""Tasks on which a verdict hangs by one rule of the format: written as folders, as their authors would have made them.

Each is played by the oracle, by an agent that does nothing, and by one that types recorded keys; the official harness
and ours must then say the same. Where upstream is plainly wrong, `defect` says how, and what ours says instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Literal

BASE = "tgym-parity/base:1"  # built by `base/Dockerfile`: debian, tmux, asciinema, python3, pytest
BASE_FOLDER = Path(__file__).parent / "base"
Format = Literal["terminal-bench", "harbor"]
FORMATS: tuple[Format, ...] = ("terminal-bench", "harbor")
AGENTS = ("oracle", "nop", "keys")
_PLAIN = """
from pathlib import Path

def test_there():
    assert Path("/app/answer").is_file()

def test_right():
    assert Path("/app/answer").read_text().strip() == "42"
"""
_SOLVE = "echo 42 > /app/answer\n"
_WRONG = ("echo 41 > /app/answer\n",)
_RUN = """#!/bin/bash
python3 -m pytest $TEST_DIR/test_outputs.py -rA
"""
_COMPOSE = """services:
  client:
    build:
      dockerfile: Dockerfile
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}
    command: ["sh", "-c", "sleep infinity"]
    environment:
      - TEST_DIR=${T_BENCH_TEST_DIR}
    volumes:
      - ${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}
      - ${T_BENCH_TASK_AGENT_LOGS_PATH}:${T_BENCH_CONTAINER_AGENT_LOGS_PATH}
"""
_TEST_SH = """#!/bin/bash
python3 -m pytest /tests/test_outputs.py -rA
if [ $? -eq 0 ]; then echo 1 > /logs/verifier/reward.txt; else echo 0 > /logs/verifier/reward.txt; fi
"""


@dataclass(frozen=True)
class Case:
    """One task."""

    name: str
    format: Format
    rule: str  # of the format, that its verdict hangs by
    tests: Mapping[str, str] = field(default_factory=lambda: {"test_outputs.py": _PLAIN})
    run: str = ""  # run-tests.sh, or tests/test.sh; "": the format's usual one
    solution: str | None = _SOLVE  # None: only what is in `files`
    keys: tuple[str, ...] = _WRONG  # what the recorded-keys agent types
    yaml: str = ""  # lines added to task.yaml
    toml: str = ""  # lines added to task.toml
    test_s: float = 60.0
    files: Mapping[str, str] = field(default_factory=dict)  # further files of the folder
    defect: str = ""  # what upstream does wrong here
    ours: Mapping[str, str] = field(default_factory=dict)  # agent → our verdict where upstream's differs


def _tb(name: str, rule: str, **more: object) -> Case:
    return Case(name, "terminal-bench", rule, **more)  # type: ignore[arg-type]


def _hb(name: str, rule: str, **more: object) -> Case:
    return Case(name, "harbor", rule, **more)  # type: ignore[arg-type]


_SKIPS = """
import pytest
from pathlib import Path

def test_there():
    if not Path("/app/answer").is_file():
        pytest.skip("nothing to see")
    assert Path("/app/answer").read_text().strip() == "42"
"""
_XFAIL = """
import pytest
from pathlib import Path

@pytest.mark.xfail
def test_known_to_fail():
    assert Path("/app/answer").read_text().strip() == "41"

def test_always():
    assert True
"""
_DASHES = """
import pytest
from pathlib import Path

@pytest.mark.parametrize("what", ["a - b", "c"])
def test_answer(what):
    assert Path("/app/answer").read_text().strip() == "42", "wrong - very wrong"
"""
_NAMES = {
    "test_a.py": "from pathlib import Path\n\ndef test_same():\n    assert Path('/app/answer').is_file()\n",
    "test_b.py": "def test_same():\n    assert True\n",
}
_BOX = 'echo "SWEBench results starts here"\n{}\necho "SWEBench results ends here"\n'
_CONFTEST = (
    "mkdir -p /tests\n",
    "printf 'def pytest_pyfunc_call(pyfuncitem):\\n    return True\\n' > /tests/conftest.py\n",
)

TERMINAL_BENCH: tuple[Case, ...] = (
    _tb("plain", "every status passed"),
    _tb("skips", "SKIPPED counts as passed", tests={"test_outputs.py": _SKIPS}),
    _tb("xfail", "XFAIL counts as passed, XPASS as failed", tests={"test_outputs.py": _XFAIL}),
    _tb("dashes", "a FAILED line loses its last ' - …'", tests={"test_outputs.py": _DASHES}),
    _tb(
        "same-name",
        "file names are dropped: of two tests with one name the last wins",
        tests=_NAMES,
        run="#!/bin/bash\npython3 -m pytest $TEST_DIR/test_a.py $TEST_DIR/test_b.py -rA\n",
        keys=("true\n",),
    ),
    _tb("late-exit", "the exit code of run-tests.sh is ignored", run=_RUN + "exit 3\n"),
    _tb("no-summary", "no summary is a parse error", run=_RUN.replace(" -rA", "")),
    _tb(
        "two-banners",
        "what follows the first banner counts",
        run='#!/bin/bash\necho "=== short test summary info ==="\necho "FAILED x::test_there - early"\n'
        + _RUN,
    ),
    _tb(
        "planted-conftest",
        "nothing in /tests is wiped before the tests are copied in",
        keys=_CONFTEST,
    ),
    _tb(
        "swebench",
        "the block between the markers is PASSED",
        yaml="parser_name: swebench\n",
        run="#!/bin/bash\n"
        + _BOX.format('[ "$(cat /app/answer 2>/dev/null)" = 42 ] && echo PASSED || echo FAILED'),
    ),
    _tb(
        "swebench-no-markers",
        "no marker is a parse error",
        yaml="parser_name: swebench\n",
        run="#!/bin/bash\n[ -f /app/answer ] || exit 0\n" + _BOX.format("echo PASSED"),
    ),
    _tb(
        "slow-tests",
        "a test phase that outlives its limit is a test timeout",
        test_s=8.0,
        run="#!/bin/bash\n[ -f /app/answer ] || sleep 60\n" + _RUN.partition("\n")[2],
    ),
    _tb(
        "keystrokes",
        "solution.yaml is typed",
        solution=None,
        files={"solution.yaml": "- command: echo 42 > /app/answer\n  min_timeout_sec: 0.5\n  block: true\n"},
    ),
    _tb(
        "scrollback",
        "everything that the tests print is read",
        run=_RUN + "seq 1 3000\n",
        defect="its terminal keeps 2,000 lines: what was printed before is lost, the summary with it",
        ours={"oracle": "passed", "nop": "failed", "keys": "failed"},
    ),
    _tb(
        "nothing-said",
        "an empty result is no success",
        run='#!/bin/bash\necho "=== short test summary info ==="\necho nothing\n',
        defect="an empty set of results is vacuously all passed",
        ours={"oracle": "error", "nop": "error", "keys": "error"},
    ),
)

_REWARD_JSON = """#!/bin/bash
if [ "$(cat /app/answer 2>/dev/null)" = 42 ]; then r=1; else r=0; fi
echo "{\\"reward\\": $r, \\"style\\": 0.5}" > /logs/verifier/reward.json
echo 0 > /logs/verifier/reward.txt
"""
_SEPARATE_TEST = """#!/bin/bash
if [ "$(cat /app/answer 2>/dev/null)" = 42 ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt
"""
_STEP_TEST = """#!/bin/bash
if [ "$(cat /app/{0} 2>/dev/null)" = {0} ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt
"""


_STEP_SILENT = """#!/bin/bash
[ "$(cat /app/{0} 2>/dev/null)" = {0} ] && echo 1 > /logs/verifier/reward.txt
"""


def _step(name: str, *, test: str = _STEP_TEST, solved: bool = True) -> dict[str, str]:
    files = {
        f"steps/{name}/instruction.md": f"Write {name} into /app/{name}.\n",
        f"steps/{name}/tests/test.sh": test.format(name),
    }
    if solved:
        files[f"steps/{name}/solution/solve.sh"] = f"#!/bin/bash\necho {name} > /app/{name}\n"
    return files


HARBOR: tuple[Case, ...] = (
    _hb("plain", "the reward file decides"),
    _hb("late-exit", "the exit code of test.sh is ignored", run=_TEST_SH + "exit 3\n"),
    _hb("reward-json", "reward.json goes before reward.txt", run=_REWARD_JSON, tests={}),
    _hb(
        "no-reward",
        "no reward file is an error",
        run="#!/bin/bash\n[ -f /app/answer ] && echo 1 > /logs/verifier/reward.txt\n",
        tests={},
    ),
    _hb("not-finite", "NaN is an error", run="#!/bin/bash\necho nan > /logs/verifier/reward.txt\n", tests={}),
    _hb(
        "bad-json",
        "an empty reward.json is an error, whatever reward.txt says",
        run="#!/bin/bash\n: > /logs/verifier/reward.json\necho 1 > /logs/verifier/reward.txt\n",
        tests={},
    ),
    _hb(
        "half",
        "a reward may lie between 0 and 1",
        run="#!/bin/bash\n[ -f /app/answer ] && r=0.5 || r=0\necho $r > /logs/verifier/reward.txt\n",
        tests={},
    ),
    _hb(
        "stale-reward",
        "/logs/verifier is not wiped: what was there is read",
        run="#!/bin/bash\n[ -f /app/answer ] && echo 1 > /logs/verifier/reward.txt\n",
        tests={},
        keys=("echo 1 > /logs/verifier/reward.txt\n",),
    ),
    _hb("planted-conftest", "/tests is not wiped before the tests are uploaded", keys=_CONFTEST),
    _hb(
        "slow-tests",
        "a verifier that outlives its limit is an error",
        test_s=8.0,
        run="#!/bin/bash\n[ -f /app/answer ] || sleep 60\n" + _TEST_SH.partition("\n")[2],
    ),
    _hb(
        "separate",
        "a separate verifier sees declared artifacts alone",
        toml='artifacts = ["/app/answer"]\n',
        run=_SEPARATE_TEST,
        tests={},
        files={"verifier.toml": 'environment_mode = "separate"\n'},
    ),
    _hb(
        "separate-not-declared",
        "what is not declared does not cross over",
        toml='artifacts = ["/app/other"]\n',
        run=_SEPARATE_TEST,
        tests={},
        solution="echo 42 > /app/answer; echo 42 > /app/other\n",
        files={"verifier.toml": 'environment_mode = "separate"\n'},
    ),
    _hb(
        "two-steps",
        "the reward is the mean of the steps",
        solution=None,
        run="none",
        tests={},
        files={**_step("first"), **_step("second")},
        keys=("echo first > /app/first\n",),
    ),
    _hb(
        "steps-without-reward",
        "a step that leaves no reward ends the task, and is left out of the mean",
        solution=None,
        run="none",
        tests={},
        files={
            **_step("first", test=_STEP_SILENT),
            **_step("second", test="#!/bin/bash\nexit 1\n"),
            **_step("third"),
        },
        keys=("echo first > /app/first\n",),
    ),
    _hb(
        "steps-least-reward",
        "below its min_reward a step ends the task; `final` counts the last that was played; "
        "a step without a solution takes the task's",
        solution="echo second > /app/second\n",
        run="none",
        tests={},
        toml='multi_step_reward_strategy = "final"\n',
        files={**_step("first"), **_step("second", solved=False), "step.toml": "min_reward = 1.0\n"},
        keys=("echo first > /app/first\n",),
    ),
)
CASES: Mapping[Format, tuple[Case, ...]] = {"terminal-bench": TERMINAL_BENCH, "harbor": HARBOR}


def write(case: Case, root: Path) -> Path:
    """Write the case's task folder below `root`; returns it."""
    folder = root / case.name
    for name, text in _files(case).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
    return folder


def digest(case: Case) -> str:
    """Return 12 hex digits over what is played: the folder's files and the keys."""
    played = [BASE, _files(case), case.keys]
    return hashlib.sha256(json.dumps(played, sort_keys=True).encode()).hexdigest()[:12]


def _files(case: Case) -> dict[str, str]:
    return _terminal_bench(case) if case.format == "terminal-bench" else _harbor(case)


def write_keys(case: Case, root: Path) -> Path:
    """Write what the recorded-keys agent types, as `--agent scripted` reads it; returns the file."""
    path = root / f"{case.name}.json"
    root.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps([{"text": text, "wait_s": 20} for text in case.keys], indent=1) + "\n", "utf-8"
    )
    return path


def _terminal_bench(case: Case) -> dict[str, str]:
    head = dedent(f"""\
        instruction: |
          Write the answer, 42, into /app/answer.
        author_name: terminal-gym
        difficulty: easy
        category: parity
        tags: [parity]
        max_agent_timeout_sec: 120
        max_test_timeout_sec: {case.test_s:g}
        """)
    files = {
        "task.yaml": head + (case.yaml or "parser_name: pytest\n"),
        "Dockerfile": f"FROM {BASE}\n",
        "docker-compose.yaml": _COMPOSE,
        "run-tests.sh": case.run or _RUN,
        **{f"tests/{name}": text for name, text in case.tests.items()},
        **case.files,
    }
    if case.solution is not None:
        files["solution.sh"] = "#!/bin/bash\n" + case.solution
    return files


def _harbor(case: Case) -> dict[str, str]:
    parts = ("verifier.toml", "step.toml")  # lines of task.toml
    extra = {name: text for name, text in case.files.items() if name not in parts}
    steps = list(dict.fromkeys(name.split("/")[1] for name in extra if name.startswith("steps/")))
    toml = f'version = "1.0"\n{case.toml}\n[metadata]\nauthor_name = "terminal-gym"\ndifficulty = "easy"\n\n'
    toml += "[agent]\ntimeout_sec = 120.0\n\n[verifier]\n"
    toml += f"timeout_sec = {case.test_s}\n{case.files.get('verifier.toml', '')}\n"
    toml += f'[environment]\nbuild_timeout_sec = 300.0\ndocker_image = "{BASE}"\ncpus = 1\nmemory = "1G"\n'
    each = case.files.get("step.toml", "")
    toml += "".join(f'\n[[steps]]\nname = "{name}"\n{each}' for name in steps)
    files = {"task.toml": toml, "environment/Dockerfile": f"FROM {BASE}\n", **extra}
    if not steps:
        files["instruction.md"] = "Write the answer, 42, into /app/answer.\n"
        files["tests/test.sh"] = case.run or _TEST_SH
        files |= {f"tests/{name}": text for name, text in case.tests.items()}
    if case.solution is not None:
        files["solution/solve.sh"] = "#!/bin/bash\n" + case.solution
    return files
