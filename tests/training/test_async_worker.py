from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from kit.talk import talk
from kit.waiting import wait_until

from terminal_gym.trajectory.record import Trajectory
from training.async_worker import TerminalWorker
from training.rewards import Curriculum


def outcome(task: str, attempt: int, tokens: Any) -> Trajectory:
    status = "broken" if attempt % 4 == 3 else "passed" if task == "easy" or attempt % 2 else "failed"
    return talk([("Do it.", f"try {attempt}"), ("seen", "done")], task=task, status=status, tokens=tokens)


def drained(worker: TerminalWorker) -> list[Any]:
    return [worker.rollout_buffer.get_nowait() for _ in range(worker.rollout_buffer.qsize())]


def test_groups_become_samples_token_by_token(tokens: Any) -> None:
    from trl.experimental.async_grpo.async_grpo_trainer import RolloutWorkerProtocol

    worker = TerminalWorker(
        Curriculum(["half"]), lambda task, k: outcome(task, k, tokens), group=4, episodes=4, backlog=6
    )
    protocol = [name for name in vars(RolloutWorkerProtocol) if not name.startswith("_")]
    assert all(hasattr(worker, name) for name in (*protocol, "rollout_buffer", "metrics_queue"))
    worker.update_model_version(7)
    worker.start()
    assert wait_until(lambda: worker.rollout_buffer.qsize() >= 6, deadline_s=60)
    worker.check_health(60)
    worker.stop()
    samples = drained(worker)
    groups = {sample.group_id for sample in samples}
    assert {sample.model_version for sample in samples} == {7}
    for group in groups:
        mine = [sample for sample in samples if sample.group_id == group]
        assert len(mine) == 3  # the fourth is broken
        assert sum(sample.advantage for sample in mine) == pytest.approx(0, abs=1e-6)
        assert {sample.metrics["reward"] for sample in mine} == {0.0, 1.0}
    said = [a for a, b in zip(samples[0].input_ids, samples[0].completion_mask, strict=True) if b]
    assert tokens.decode(said).endswith("<|im_end|>done<|im_end|>")
    assert (samples[0].old_log_probs[samples[0].completion_mask == 1] == -0.5).all()
    assert worker.metrics_queue.get_nowait()["episodes/broken"] == (1.0, 4.0)
    assert not [one for one in threading.enumerate() if one.name.startswith("tgym-async")]


def test_groups_that_teach_nothing_are_not_handed_over(tokens: Any) -> None:
    worker = TerminalWorker(
        Curriculum(["easy"]), lambda task, k: outcome(task, k, tokens), group=2, episodes=2
    )
    worker.start()
    assert wait_until(lambda: worker.metrics_queue.qsize() >= 2, deadline_s=60)
    worker.stop()
    worker.stop()
    assert worker.rollout_buffer.empty()


def test_a_broken_loop_and_a_silent_one_are_told(tokens: Any) -> None:
    def fail(task: str, attempt: int) -> Trajectory:
        raise OSError("disk")

    worker = TerminalWorker(Curriculum(["half"]), fail, group=2, episodes=2)
    worker.start()

    def is_told() -> bool:
        try:
            worker.check_health(60)
        except RuntimeError as error:
            return "disk" in str(error)
        return False

    assert wait_until(is_told, deadline_s=60)
    worker.stop()
    silent = TerminalWorker(Curriculum(["half"]), fail)
    with pytest.raises(RuntimeError, match="No episode has ended"):
        silent.check_health(-1.0)


def test_a_rewritten_history_is_a_sample_of_its_own(tokens: Any) -> None:
    def play(task: str, attempt: int) -> Trajectory:
        first, second = outcome(task, attempt % 2, tokens), talk([("Summary.", "on")], tokens=tokens)
        return replace(first, steps=(*first.steps, *second.steps))

    worker = TerminalWorker(Curriculum(["half"]), play, group=2, episodes=2, backlog=4)
    worker.start()
    assert wait_until(lambda: worker.rollout_buffer.qsize() >= 4, deadline_s=60)
    worker.stop()
    samples = drained(worker)[:4]
    assert [sample.group_id for sample in samples] == [0] * 4
    assert [sample.advantage > 0 for sample in samples] == [False, False, True, True]
