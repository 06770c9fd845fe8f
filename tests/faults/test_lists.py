"""Rows K1 and J9 for the other files that are appended to: opinions of a model, tables of the pipeline.

A stage's table is written by `env_registry`, a run's opinions by `terminal_gym`; both are chained lines.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from kit.scripted_model import ScriptedModel
from kit.trajectories import trajectory

from env_registry.pipeline.stage import Table, run_stage
from terminal_gym.errors import RunBusy
from terminal_gym.rollout import judge
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.store import Run, RunWriter

SAID = json.dumps({"solved": True, "reason": "so it seems"})
Writer = Callable[[Path], list[str]]


def opinions(folder: Path) -> list[str]:
    """Judge what is not judged yet; returns what is on record."""
    if not folder.exists():
        with RunWriter(folder, {}) as writer:
            for k in range(3):
                writer.append(trajectory(f"TerminalTraj/t{k}", turns=1, ids=False))
    judge.judge(Run(folder), ScriptedModel(SAID), concurrency=1)
    return [one.task for one in judge.judgements(folder).values()]


def stage(folder: Path) -> list[str]:
    """Decide what is not decided yet; returns what is on record."""
    folder.mkdir(exist_ok=True)
    run_stage(Table(folder, "collect"), [(f"item-{n}", n) for n in range(3)], lambda n: {"n": n})
    return list(Table(folder, "collect").rows)


CASES = [pytest.param(opinions, judge.FILE, id="opinions"), pytest.param(stage, "collect.jsonl", id="stage")]


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.whole)])
@pytest.mark.parametrize(("go_on", "name"), CASES)
def test_cut_at_any_byte_it_goes_on_and_throws_nothing_away(
    tmp_path: Path, go_on: Writer, name: str, step: int
) -> None:
    whole = go_on(tmp_path / "whole")
    data = (tmp_path / "whole" / name).read_bytes()
    assert len(whole) == 3
    for cut in range(0, len(data), step):
        folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / f"{cut}"))
        (folder / name).write_bytes(data[:cut])
        assert go_on(folder) == whole, f"cut at {cut}"
        torn = data[data.rfind(b"\n", 0, cut) + 1 : cut]
        assert [path.read_bytes() for path in folder.glob("torn/*")] == ([torn] if torn else [])


def test_two_who_judge_one_run_do_not_write_over_each_other(tmp_path: Path) -> None:
    folder, asked, answer = tmp_path / "run", threading.Event(), threading.Event()
    with RunWriter(folder, {}) as writer:
        writer.append(trajectory("TerminalTraj/t", turns=1, ids=False))

    def slow(messages: Sequence[Message]) -> str:
        asked.set()
        assert answer.wait(60.0)
        return SAID

    first = threading.Thread(target=judge.judge, args=(Run(folder), ScriptedModel(slow)))
    first.start()
    try:
        assert asked.wait(60.0)
        with pytest.raises(RunBusy, match="process"):
            judge.judge(Run(folder), ScriptedModel(SAID))
    finally:
        answer.set()
        first.join()
    assert len(judge.judgements(folder)) == 1
