"""Our plug-ins under the real Harbor, in an image with Python 3.13: its agents in our sandboxes, and ours in them too.

By default the shortest way through both plug-ins is gone, where the machine holds the image; the whole makes it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit.harness import Stage, stage

from benchmarks.parity import harness

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]
OURS = ("--env", "terminal_gym.harbor:TerminalGymEnvironment")
AGENT = (*OURS, "--agent", "terminal_gym.harbor:TerminalGymAgent")


@pytest.fixture
def image() -> None:
    if not harness.is_made():
        pytest.skip("the image of the official harnesses is not made: `pytest -m whole` makes it")


@pytest.fixture
def plain(tmp_path: Path) -> Stage:
    return stage(tmp_path, "harbor", ["plain", "half"])


def harbor(at: Stage, job: str, *words: str) -> str:
    """Run a job of Harbor; returns what it printed."""
    ran = at.run("harbor", "run", "--path", str(at.tasks), "--jobs-dir", str(at.root / "work"), "--job-name", job,
                 "--yes", "--quiet", *words)  # fmt: skip
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    assert "Exception ignored" not in said
    return said


@pytest.mark.whole
def test_harbors_oracle_and_nop_in_our_sandboxes(plain: Stage) -> None:
    harbor(plain, "oracle", *OURS, "--agent", "oracle")
    harbor(plain, "nop", *OURS, "--agent", "nop")
    rewards = {
        job: {task: told["verifier_result"]["rewards"] for task, told in plain.results(job).items()}
        for job in ("oracle", "nop")
    }
    assert rewards["oracle"] == {"plain": {"reward": 1.0}, "half": {"reward": 0.5}}
    assert rewards["nop"] == {"plain": {"reward": 0.0}, "half": {"reward": 0.0}}
    told = plain.results("oracle")["plain"]
    assert told["exception_info"] is None
    assert told["config"]["environment"]["import_path"] == OURS[1]


@pytest.mark.whole
def test_our_agent_types_on_our_terminal_and_leaves_a_trajectory_that_harbor_reads(plain: Stage) -> None:
    (plain.keys / "solve.json").write_text('[{"text": "echo 42 > answer\\n", "wait_s": 20}]')
    harbor(plain, "job", *AGENT, "--ak", "agent=scripted", "--ak", "script=/harness/keys/solve.json")
    told = plain.results("job")
    assert told["plain"]["verifier_result"]["rewards"] == {"reward": 1.0}
    assert told["plain"]["agent_info"]["name"] == "terminal-gym"
    assert told["plain"]["agent_result"]["metadata"]["agent"] == "scripted"
    read = plain.run("python3", "/harness/check/check_job.py", str(plain.root / "work/job"))
    assert json.loads(read.stdout)["trajectories"] == 2, read.stderr


def test_an_agent_that_harbor_stops_is_judged_and_its_trajectory_kept(image: None, plain: Stage) -> None:
    (plain.keys / "slow.json").write_text(
        '[{"text": "echo 42 > answer\\n", "wait_s": 20}, {"text": "sleep 500\\n", "wait_s": 3}, {"wait_s": 500}]'
    )
    config = plain.tasks / "plain/task.toml"
    config.write_text(config.read_text().replace("timeout_sec = 120.0", "timeout_sec = 6.0"))
    words = (
        "--include-task-name",
        "plain",
        "--ak",
        "agent=scripted",
        "--ak",
        "script=/harness/keys/slow.json",
    )
    harbor(plain, "job", *AGENT, *words)
    told = plain.results("job")["plain"]
    assert told["exception_info"]["exception_type"] == "AgentTimeoutError"
    assert told["verifier_result"]["rewards"] == {"reward": 1.0}
    (path,) = (plain.root / "work/job").glob("*/agent/trajectory.json")
    typed = [
        call["arguments"]
        for step in json.loads(path.read_text())["steps"]
        for call in step.get("tool_calls", ())
    ]
    assert [arguments["keystrokes"] for arguments in typed] == ["echo 42 > answer\n", "sleep 500\n"]


def test_our_agent_says_where_it_can_play(image: None, plain: Stage) -> None:
    lines = (
        "import asyncio, pathlib",
        "from harbor.environments.docker.docker import DockerEnvironment",
        "from terminal_gym.harbor import TerminalGymAgent",
        "agent = TerminalGymAgent(pathlib.Path('.'), agent='nop')",
        "asyncio.run(agent.setup(DockerEnvironment.__new__(DockerEnvironment)))",
    )
    ran = plain.run("python3", "-c", "\n".join(lines))
    assert "BadSetting" in ran.stderr
    assert "-e terminal_gym.harbor:TerminalGymEnvironment" in ran.stderr
