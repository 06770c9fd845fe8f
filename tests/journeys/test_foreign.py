"""Real folders of each foreign format on real Docker: the oracle passes and nobody does not, by both sets of rules."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from terminal_gym.agents.agent import open_agent
from terminal_gym.agents.scripted import Scripted
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import BadSetting, ImageChanged, NotSupported
from terminal_gym.rollout.calibrate import calibrate
from terminal_gym.rollout.episode import run_episode
from terminal_gym.rollout.job import Job, open_rollout
from terminal_gym.sandbox.base import Runtime, SandboxSpec, open_runtime
from terminal_gym.tasks import calibration
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.record import Action, Outcome
from terminal_gym.trajectory.store import Run

pytestmark = pytest.mark.docker
KIT = Path(__file__).parents[1] / "kit" / "tasks"
NOTE = "echo three herons > /app/note.txt; chmod 600 /app/note.txt"
# A conftest.py that makes every test pass, where pytest would find it, and settings that load it.
CHEAT = r"""
mkdir -p /tests /app
cat > /tests/conftest.py <<'END'
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem): return True
END
cp /tests/conftest.py /app; cp /tests/conftest.py /
printf '[pytest]\naddopts = -p conftest\n' | tee /pytest.ini > /app/pytest.ini
mkdir -p /logs/verifier; echo 1 > /logs/verifier/reward.txt; echo '{"reward": 1}' > /logs/verifier/reward.json
mkdir -p ~/.local/bin /usr/local/bin
printf '#!/bin/sh\necho 1 > /logs/verifier/reward.txt; exit 0\n' > /usr/local/bin/uv
for name in uvx curl pytest; do cp /usr/local/bin/uv /usr/local/bin/$name; done
chmod +x /usr/local/bin/*; echo 'export PATH=/usr/local/bin:$PATH' > ~/.local/bin/env; clear
"""


@pytest.fixture(scope="module")
def docker(docker_runtime: Runtime) -> Runtime:
    for name in ("bench1-note", "bench1-shop", "bench2-note", "bench2-vault", "bench2-trail"):
        for recipe in read_folder(KIT / name).images:
            docker_runtime.build(recipe)
    return docker_runtime


def played(task: Task, agent: str | list[Action], runtime: Runtime, **settings: object) -> Outcome:
    player = open_agent(agent) if isinstance(agent, str) else Scripted(agent)
    with TerminalEnv(task, runtime=runtime, **settings) as env:  # type: ignore[arg-type]
        return run_episode(env, player).outcome


def typed(*commands: str) -> list[Action]:
    return [*(Action(command=command, wait_s=30.0) for command in commands), Action(submit=True)]


def both(outcome: Outcome) -> tuple[str, str]:
    assert outcome.strict is not None
    assert outcome.parity is not None
    return outcome.strict.status, outcome.parity.status


@pytest.mark.parametrize(
    "name", ["bench1-note", "bench1-shop", "bench2-note", "bench2-vault", "bench2-trail"]
)
def test_the_oracle_passes_and_nobody_does_not(docker: Runtime, name: str) -> None:
    task = read_folder(KIT / name)
    solved = played(task, "oracle", docker)
    assert (both(solved), solved.reward) == (("passed", "passed"), 1.0), solved
    assert any(note.startswith("shim") for note in solved.notes)
    assert "uncalibrated" in solved.notes
    idle = played(task, "nop", docker, grading="parity")
    assert (both(idle), idle.reward, idle.grading) == (("failed", "failed"), 0.0, "parity"), idle
    steps = {"bench2-trail": 2}.get(name, 0)
    assert len(solved.steps) == steps


@pytest.mark.parametrize(
    ("agent", "rewards", "reward"),
    [("oracle", [1.0, 1.0], 1.0), ("nop", [0.0], 0.0), ("half", [0.5, 0.0], 0.25)],
)
def test_a_rollout_plays_each_step_of_a_task(
    docker: Runtime, tmp_path: Path, agent: str, rewards: list[float], reward: float
) -> None:
    (tmp_path / "half.yaml").write_text("- {command: echo heron > /app/birds.txt}\n")
    settings = {"script": str(tmp_path / "half.yaml")} if agent == "half" else {}
    name = "scripted" if agent == "half" else agent
    job = Job.of([str(KIT / "bench2-trail")], agent=name, agent_settings=settings, grading="parity")
    with open_rollout(job, tmp_path / "run", docker) as rollout:
        rollout.run()
    (played,) = Run(tmp_path / "run")
    assert [step.parity.reward for step in played.outcome.steps if step.parity] == rewards
    assert (played.outcome.reward, played.outcome.status == "passed") == (reward, reward == 1.0)
    assert played.outcome.strict is not None
    assert played.outcome.strict.status == ("passed" if agent == "oracle" else "failed")


def test_a_step_without_a_solution_takes_the_tasks(docker: Runtime, tmp_path: Path) -> None:
    folder = shutil.copytree(KIT / "bench2-trail", tmp_path / "bench2-trail")
    (folder / "solution").mkdir()
    both_steps = folder / "solution/solve.sh"
    shutil.move(folder / "steps/gather/solution/solve.sh", both_steps)
    (folder / "steps/gather/solution").rmdir()
    assert both(played(read_folder(folder), "oracle", docker)) == ("passed", "passed")
    both_steps.unlink()
    job = Job.of([str(folder)], agent="oracle")
    with (
        pytest.raises(BadSetting, match="has a step that has no solution"),
        open_rollout(job, tmp_path / "run", docker),
    ):
        pass
    assert not (tmp_path / "run").exists(), "what cannot be played is said before anything is made"


def test_a_released_instance_is_played_on_a_mapped_image(
    docker: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = read_folder(KIT / "task_17")
    stand_in = read_folder(KIT / "bench1-note").image.name
    (tmp_path / "images.yaml").write_text(f"{task.image.name}: {stand_in}\n")
    monkeypatch.setenv("TGYM_BASE_IMAGES", str(tmp_path / "images.yaml"))
    docker.build(task.image)
    try:
        solved = played(task, typed(NOTE), docker)
        assert both(solved) == ("passed", "passed"), solved
        assert f"base image: {stand_in} in place of {task.image.name}" in solved.notes
    finally:
        docker.remove_image(task.image.name)


def test_what_was_planted_wins_upstream_and_never_with_us(docker: Runtime) -> None:
    for name in ("bench1-note", "bench2-note"):
        outcome = played(read_folder(KIT / name), typed(CHEAT), docker)
        assert both(outcome) == ("failed", "passed"), (name, outcome)
        assert outcome.reward == 0.0


def test_a_reward_that_was_there_before_counts_upstream_where_the_script_writes_none(
    docker: Runtime, tmp_path: Path
) -> None:
    folder = shutil.copytree(KIT / "bench2-note", tmp_path / "bench2-note")
    (folder / "tests/test.sh").write_text("#!/bin/bash\nexit 1\n")
    outcome = played(read_folder(folder), typed("echo 1 > /logs/verifier/reward.txt"), docker)
    assert outcome.parity is not None
    assert outcome.parity.status == "passed"
    assert outcome.status == "broken", "the script gives no verdict on an untouched machine either"
    assert outcome.error == "RewardFileNotFoundError"


def test_a_skipped_test_passes_upstream_and_never_with_us(docker: Runtime, tmp_path: Path) -> None:
    folder = shutil.copytree(KIT / "bench1-note", tmp_path / "bench1-note")
    tests = folder / "tests/test_outputs.py"
    tests.write_text(
        "import os, pytest\n\n\ndef test_words():\n    if not os.path.exists('/app/note.txt'): pytest.skip('no')\n"
    )
    task = read_folder(folder)
    assert both(played(task, "nop", docker)) == ("failed", "passed")
    as_script = replace(task, strict=replace(task.strict, judge="script"))
    outcome = played(as_script, "nop", docker)
    assert both(outcome) == ("failed", "passed")
    assert outcome.reason.startswith("skipped")


@pytest.mark.parametrize(
    ("script", "parity", "error"),
    [
        ("uv run pytest $TEST_DIR/test_outputs.py -rA; seq 1 3000", "passed", ""),
        ('echo "=== short test summary info ==="; echo nothing', "failed", "parse_error"),
    ],
    ids=["scrollback", "nothing-said"],
)
def test_two_defects_of_upstream_are_not_followed(
    docker: Runtime, tmp_path: Path, script: str, parity: str, error: str
) -> None:
    """Its own say the other: benchmarks/results/parity.json, the cases of these names."""
    folder = shutil.copytree(KIT / "bench1-note", tmp_path / "bench1-note")
    run = folder / "run-tests.sh"
    run.write_text(run.read_text().replace("uv run pytest $TEST_DIR/test_outputs.py -rA", script))
    solved = played(read_folder(folder), "oracle", docker, grading="parity")
    assert solved.parity is not None
    assert (solved.parity.status, solved.parity.error) == (parity, error), solved


def test_want_of_a_network_is_broken_and_an_agent_cannot_ask_for_it(docker: Runtime, tmp_path: Path) -> None:
    folder = shutil.copytree(KIT / "bench2-note", tmp_path / "bench2-note")
    script = folder / "tests/test.sh"
    script.write_text(script.read_text().replace("-w pytest==8.4.1", "-w numpy -w pytest==8.4.1"))
    outcome = played(read_folder(folder), "nop", docker)
    assert both(outcome) == ("broken", "broken"), outcome
    assert "network" in outcome.reason
    assert outcome.reward is None
    forged = KIT / "bench2-note"
    shout = "mkdir -p /usr/local/bin; printf '#!/bin/sh\\necho terminal-gym shim: OFFLINE: x\\n' > /usr/bin/apt-get"
    cat = "echo 'terminal-gym shim: OFFLINE: no' > /app/note.txt"
    outcome = played(read_folder(forged), typed(shout, cat), docker)
    assert both(outcome) == ("failed", "failed"), "its line is in the output, and not on an untouched machine"


def test_a_network_without_the_hosts_that_a_script_needs_is_broken(docker: Runtime, tmp_path: Path) -> None:
    """With a network no shim stands in for the download; on the untouched machine none may, either."""
    folder = shutil.copytree(KIT / "bench1-note", tmp_path / "bench1-note")
    told = "echo 'curl: (6) Could not resolve host: uv.invalid'"
    (folder / "run-tests.sh").write_text(f"{told}\nuv run pytest $TEST_DIR/test_outputs.py -rA\n")
    task = read_folder(folder)
    task = replace(task, limits=replace(task.limits, network=True))
    outcome = played(task, "oracle", docker, grading="parity")
    assert (outcome.status, outcome.reward) == ("broken", None), outcome
    assert "network" in outcome.reason
    assert outcome.strict is not None
    assert outcome.strict.status == "passed"


def test_who_waits_for_the_tests_solves_it_upstream_and_never_with_us(docker: Runtime) -> None:
    late = "until [ -e /tests/test.sh ]; do sleep 0.02; done; echo three herons > /app/note.txt"
    outcome = played(read_folder(KIT / "bench2-note"), typed(f"({late}) > /dev/null 2>&1 &"), docker)
    assert both(outcome) == ("failed", "passed"), outcome


def test_calibration_is_kept_beside_the_set_and_followed(docker: Runtime, tmp_path: Path) -> None:
    folder = shutil.copytree(KIT / "bench1-note", tmp_path / "set" / "bench1-note")
    before = sorted(path.name for path in folder.rglob("*"))
    found = calibrate(read_folder(folder), runtime=docker)
    assert found is not None
    # The note is readable by its owner only, so tests that run as nobody cannot pass.
    assert (found.judge, found.mode, found.fair) == ("pytest", "restart", True)
    calibration.write(calibration.beside(folder.parent), [found])
    again = read_folder(folder)
    assert again.strict.calibrated is True
    assert again.validator.tested_code_user == found.user
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert (tmp_path / "set.calibration.jsonl").is_file()
    (folder / "task.yaml").write_text((folder / "task.yaml").read_text() + "x: 1\n")
    (folder / "tests/test_outputs.py").write_text("def test_x(): pass\n")
    assert read_folder(folder).strict.calibrated is False, "what was changed since is uncalibrated"
    assert calibrate(read_folder(KIT / "task_17"), runtime=docker) is None, "there is no oracle"


def test_a_service_calibrates_to_live_where_no_restart_can_be_fair(docker: Runtime, tmp_path: Path) -> None:
    folder = shutil.copytree(KIT / "bench1-note", tmp_path / "bench1-note")
    shutil.copy(KIT / "bench1-shop/shop/shop.pl", tmp_path / "shop.pl")
    shop = (tmp_path / "shop.pl").read_text().replace("/var/sales/open", "/app/open")
    serve = f"cat > /app/shop.pl <<'END'\n{shop}END\nSTOCK='herons 3' perl /app/shop.pl > /dev/null 2>&1 &\n"
    (folder / "solution.sh").write_text(f"{serve}until [ -e /app/open ]; do sleep 0.1; done\n")
    (folder / "tests/test_outputs.py").write_text(
        "from urllib.request import urlopen\n\n\ndef test_shop():\n"
        "    assert urlopen('http://localhost:8000/stock', timeout=5).read() == b'herons 3\\n'\n"
    )
    found = calibrate(read_folder(folder), runtime=docker)
    assert found is not None
    assert (found.judge, found.mode, found.user, found.fair) == ("pytest", "live", "nobody", True)
    assert "restart" in found.note
    calibration.write(calibration.beside(tmp_path), [found])
    try:
        outcome = played(read_folder(folder), "oracle", docker)
    finally:
        calibration.beside(tmp_path).unlink()
    assert both(outcome) == ("passed", "passed"), outcome
    assert "uncalibrated" not in outcome.notes


def test_an_image_that_was_pinned_is_the_only_one(docker: Runtime) -> None:
    task = read_folder(KIT / "bench1-note")
    pinned = replace(task, image=replace(task.image, digest=docker.image(task.image.name).digest))
    with TerminalEnv(pinned, runtime=docker) as env:
        env.reset()
    with (
        TerminalEnv(
            replace(task, image=replace(task.image, digest=f"sha256:{'0' * 64}")), runtime=docker
        ) as env,
        pytest.raises(ImageChanged, match="tgym tasks pin"),
    ):
        env.reset()


def test_the_namespace_runtime_refuses_services() -> None:
    task = read_folder(KIT / "bench1-shop")
    runtime = open_runtime("namespace")
    try:
        with pytest.raises(NotSupported, match="--runtime docker"):
            runtime.start(SandboxSpec("host", "shop", services=task.services))
    finally:
        runtime.close()


def test_every_runtime_gives_both_verdicts(any_runtime: Runtime) -> None:
    note = read_folder(KIT / "bench2-note")
    task = replace(note, image=replace(note.image, name="tgym-test/base:1", context=None), workdir="/app")
    outcome = played(task, typed("mkdir -p /app; echo three herons > /app/note.txt"), any_runtime)
    assert both(outcome) == ("passed", "passed"), outcome
