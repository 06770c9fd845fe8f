"""Difficulty by solve rate: what was judged on this version of the task, and enough of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from kit.trajectories import trajectory

from env_registry.difficulty import LEAST, measured, solved
from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.store import RunWriter

STATUS: dict[str, Literal["passed", "failed", "broken"]] = {"p": "passed", "f": "failed", "b": "broken"}
ROW = {"id": "a", "hash": "sha256:a", "difficulty": "medium"}


def run(folder: Path, ends: str, *, hash: str = "sha256:a") -> Path:
    with RunWriter(folder, {}) as writer:
        for k, letter in enumerate(ends):
            writer.append(replace(trajectory(attempt=k, status=STATUS[letter], turns=1), task_hash=hash))
    return folder


@pytest.mark.parametrize(
    ("ends", "level", "by"),
    [
        ("ppp", "medium", "writer"),
        ("pppbbb", "medium", "writer"),
        ("pppf", "easy", "rollouts"),
        ("ppff", "medium", "rollouts"),
        ("pfff", "hard", "rollouts"),
        ("ffffb", "hard", "rollouts"),
        ("", "medium", "writer"),
    ],
)
def test_the_level_is_the_share_that_was_solved(tmp_path: Path, ends: str, level: str, by: str) -> None:
    row = measured(ROW, solved([run(tmp_path / "run", ends)]))
    assert (row["difficulty"], row["difficulty_by"]) == (level, by)
    judged = ends.count("p") + ends.count("f")
    assert row["judged"] == judged
    assert row["solve_rate"] == (ends.count("p") / judged if judged else None)


def test_runs_are_counted_together_and_other_versions_not_at_all(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / "1", "pp"),
        run(tmp_path / "2", "pf"),
        run(tmp_path / "3", "ffff", hash="sha256:old"),
    ]
    row = measured(ROW, solved(runs))
    assert (row["judged"], row["solve_rate"], row["difficulty"]) == (LEAST, 0.75, "easy")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting):
        solved([tmp_path])
