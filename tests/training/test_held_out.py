"""pass@1 by live rollouts while a tiny model learns a solution by heart: from 0 to 1 on a copy of that task."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.processes import ON_CPU, TWO_PROCESSES
from kit.talk import TAIL

from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.store import Run, RunWriter
from training import sft
from training.examples import Choice, make_table
from training.held_out import HeldOut
from training.rollout_bridge import Ids, Live, Rollouts
from training.settings import Model, plain
from training.sft import Sft

HELLO = Path(__file__).parents[1] / "kit" / "tasks" / "hello"
TURNS = ["```bash\nprintf 'hello, world\\n500500\\n' > /app/greeting.txt\n```", "```bash\n<submit>\n```"]
LIVE = Live(runtime="namespace", episodes=2, max_steps=4, completion_tokens=420, patience_s=2.0)
LEARNS = {
    "per_device_train_batch_size": 4,
    "max_steps": 60,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "logging_steps": 20,
    "save_strategy": "no",
    "seed": 3,
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, shared_runtime: Runtime, tiny: Path, tokens: Any) -> Path:
    """Four equal demonstrations of `hello`, on real sandboxes."""
    folder = tmp_path_factory.mktemp("shown")

    def shows(prompts: list[Ids]) -> tuple[list[Ids], None]:
        turns = [tokens.decode(ids).count("<|im_start|>assistant") - 1 for ids in prompts]
        return [tokens(TURNS[turn] + TAIL, add_special_tokens=False)["input_ids"] for turn in turns], None

    with RunWriter(folder / "run", {"tasks": {}}) as run:
        rollouts = Rollouts(
            {"hello": read_folder(HELLO)},
            shared_runtime,
            tokens,
            template="chatml",
            context_tokens=1024,
            live=LIVE,
            keep=run.append,
        )
        try:
            played = rollouts.play(["hello"] * 4, shows)
        finally:
            rollouts.close()
        assert {one.played.outcome.status for one in played} == {"passed"}
    choice = Choice(max_tokens=1024, duplicates=True)
    made = make_table([folder / "run"], folder / "table", tokens, tokenizer_name=str(tiny), choice=choice)
    assert made.facts.rows["train"] == 4
    return made.folder


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same task under a name that was never learned from."""
    return Path(shutil.copytree(HELLO, tmp_path_factory.mktemp("tasks") / "hello-again"))


def settings(tmp_path: Path, tiny: Path, table: Path, task: Path, **changed: Any) -> Sft:
    made = Sft(
        model=Model(str(tiny), dtype="float32"),
        table=str(table),
        out=str(tmp_path / "out"),
        context_tokens=1024,
        held_out=HeldOut(manifest=str(task), every=1, attempts=2, reply_tokens=64, live=LIVE),
        needs_gpu=False,
        trainer=LEARNS,
    )
    return replace(made, **changed)


def test_pass_at_1_rises_from_0_to_1(tmp_path: Path, tiny: Path, table: Path, copy: Path) -> None:
    asked = HeldOut(manifest=str(copy), every=59, attempts=2, reply_tokens=64, live=LIVE)
    before = settings(tmp_path / "before", tiny, table, copy, trainer={**LEARNS, "max_steps": 1})
    assert sft.train(sft.prepare(before))["pass_at_1"] == 0.0
    after = settings(tmp_path / "after", tiny, table, copy, held_out=asked)
    told = sft.train(sft.prepare(after))
    assert told["pass_at_1"] == 1.0
    out = tmp_path / "after" / "out"
    history = json.loads((out / "history.json").read_text())
    measured = [
        (one["step"], one["held_out/judged"], one["held_out/broken"]) for one in history if "pass@1" in one
    ]
    assert measured == [(59, 2.0, 0.0), (60, 2.0, 0.0)]
    played = list(Run(out / "held-out-0-0"))
    assert [one.outcome.status for one in played][-2:] == ["passed", "passed"]
    assert {one.task for one in played} == {"TerminalTraj/hello-again"}


def test_what_is_learned_from_is_not_held_out(tmp_path: Path, tiny: Path, table: Path) -> None:
    with pytest.raises(BadSetting, match=r"TerminalTraj/hello is held out, and .* learns from it"):
        sft.prepare(settings(tmp_path, tiny, table, HELLO))


def test_a_runtime_that_is_not_there_is_named(tmp_path: Path, tiny: Path, table: Path, copy: Path) -> None:
    nowhere = HeldOut(manifest=str(copy), live=replace(LIVE, runtime="namespac"))
    with pytest.raises(UnknownName, match="Did you mean 'namespace'"):
        sft.prepare(settings(tmp_path, tiny, table, copy, held_out=nowhere))


def test_an_episode_needs_room(tmp_path: Path, tiny: Path, table: Path, copy: Path) -> None:
    wide = HeldOut(manifest=str(copy), live=replace(LIVE, completion_tokens=1024))
    with pytest.raises(BadSetting, match=r"held_out\.live\.completion_tokens is 1024"):
        sft.prepare(settings(tmp_path, tiny, table, copy, held_out=wide))
    silent = HeldOut(manifest=str(copy), reply_tokens=0, live=LIVE)
    with pytest.raises(BadSetting, match=r"held_out\.reply_tokens is 0"):
        sft.prepare(settings(tmp_path, tiny, table, copy, held_out=silent))


@pytest.mark.slow
@pytest.mark.timeout(900)  # it starts Python, torch and trl three times
def test_two_processes_share_the_tasks(
    tmp_path: Path, tiny: Path, table: Path, copy: Path, runtime: Runtime
) -> None:
    asked = HeldOut(manifest=str(copy), every=100, attempts=3, reply_tokens=64, live=LIVE)
    made = settings(
        tmp_path,
        tiny,
        table,
        copy,
        held_out=asked,
        trainer={**LEARNS, "max_steps": 40, "per_device_train_batch_size": 2},
    )
    config = tmp_path / "sft.yaml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps(plain(made)))), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", *TWO_PROCESSES, "-m", "training.sft", "--config", str(config), "--json"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=800,
        env=os.environ | ON_CPU,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    (last,) = [one for one in history if "held_out/judged" in one]
    assert last["held_out/judged"] == 3.0
    shares = [len(list(Run(tmp_path / "out" / f"held-out-{rank}-0"))) for rank in (0, 1)]
    assert shares == [2, 1]
