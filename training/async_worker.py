"""A rollout worker for TRL's AsyncGRPOTrainer: groups of live episodes on threads, while the trainer learns.

The policy answers at a server (vLLM) that tells token ids and log-probabilities; the trainer moves weights there. A
history that was rewritten is a sample of its own, of the same group and reward.

Source: trl 1.16, `trl.experimental.async_grpo`, RolloutWorkerProtocol.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.record import Trajectory
from training import chat_format
from training.rewards import Curriculum, Reward, advantages, teaches

Play = Callable[[str, int], Trajectory]
"""(task, attempt) → an episode by the policy as it is now; called from many threads. Broken ones come back as such."""


class TerminalWorker:
    """Plays groups, as many episodes at once as it may, and hands over what teaches something.

    Args:
        curriculum: Draws tasks, and learns from verdicts.
        play: Plays one episode.
        group: Attempts at a task.
        episodes: At once.
        backlog: Samples that wait for the trainer; beyond it no new group begins.
        reward: What an episode pays.
        most_turns: That an episode may use; penalties are in proportion.
        sample: Makes the trainer's record; None: trl's RolloutSample.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        play: Play,
        *,
        group: int = 8,
        episodes: int = 32,
        backlog: int = 64,
        reward: Reward | None = None,
        most_turns: int = 30,
        sample: Callable[..., Any] | None = None,
    ):
        self.rollout_buffer: queue.Queue[Any] = queue.Queue()
        self.metrics_queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self._curriculum, self._play, self._group, self._backlog = curriculum, play, group, backlog
        self._episodes, self._reward, self._most_turns = episodes, reward or Reward(), most_turns
        self._sample = sample
        self._version, self._beat = 0, time.monotonic()
        self._error: BaseException | None = None
        self._halt = threading.Event()
        self._mutex = threading.Lock()
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin; called once by the trainer."""
        if self._sample is None:
            from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

            self._sample = RolloutSample
        self._beat = time.monotonic()  # since this was made the trainer has loaded its model
        at_once = max(1, self._episodes // self._group)
        self._workers = ThreadPoolExecutor(self._episodes, thread_name_prefix="tgym-async")
        self._threads = [threading.Thread(target=self._loop, daemon=True) for _ in range(at_once)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no more groups, and wait for the episodes under way. Safe to call again."""
        self._halt.set()
        for thread in self._threads:
            thread.join()
        if self._threads:
            self._workers.shutdown(wait=True, cancel_futures=True)
        self._threads = []

    def update_model_version(self, model_version: int) -> None:
        """Take note of the weights that are live from now on."""
        self._version = model_version

    def check_health(self, stale_after_s: float) -> None:
        """Raise RuntimeError where it broke, or no episode has ended for so long."""
        if self._error is not None:
            raise RuntimeError(f"Rollouts broke: {self._error!r}") from self._error
        if (silent := time.monotonic() - self._beat) > stale_after_s:
            raise RuntimeError(f"No episode has ended for {silent:.0f} s.")

    def _loop(self) -> None:
        try:
            while not self._halt.is_set():
                if self.rollout_buffer.qsize() >= self._backlog:
                    self._beat = time.monotonic()
                    self._halt.wait(0.05)
                    continue
                self._one_group()
        except BaseException as error:
            self._error = error

    def _one_group(self) -> None:
        with self._mutex:
            number, (task,) = next(self._numbers), self._curriculum.draw(1)
        version, first = self._version, number * self._group
        attempts = [self._workers.submit(self._played, task, first + k) for k in range(self._group)]
        played = [attempt.result() for attempt in attempts]
        rewards = [self._reward.of(one, most_turns=self._most_turns) for one in played]
        with self._mutex:
            for reward in rewards:
                self._curriculum.note(task, reward)
        judged = [reward for reward in rewards if reward is not None]
        self.metrics_queue.put(
            {
                "episodes/broken": (float(len(rewards) - len(judged)), float(len(rewards))),
                "episodes/reward": (float(sum(judged)), float(len(judged) or 1)),
                "episodes/dull_groups": (float(not teaches(rewards)), 1.0),
            }
        )
        if not teaches(rewards):
            return
        paid = advantages([[float("nan") if reward is None else reward for reward in rewards]])[0]
        for one, reward, advantage in zip(played, rewards, paid, strict=True):
            if reward is not None:
                for sample in self._samples(one, reward, float(advantage), version, number):
                    self.rollout_buffer.put_nowait(sample)

    def _played(self, task: str, attempt: int) -> Trajectory:
        played = self._play(task, attempt)
        self._beat = time.monotonic()
        return played

    def _samples(
        self, played: Trajectory, reward: float, advantage: float, version: int, group: int
    ) -> Iterator[Any]:
        assert self._sample is not None
        if any(len(turn.logprobs) != len(turn.output_ids) for turn in played.turns):
            advice = "Have the server tell them (vLLM: --logprobs-mode processed_logprobs)."
            raise BadSetting(f"{played.task}: the policy told no log-probabilities of what it said. {advice}")
        prompt = [{"role": "user", "content": played.instruction}]
        contexts: Sequence[chat_format.Tokens] = list(chat_format.sampled(played, malformed=True))
        for tokens in contexts:
            yield self._sample(
                prompt=prompt,
                completion=[],
                input_ids=tokens.ids.astype("int64"),
                completion_mask=tokens.spoken.astype("int64"),
                old_log_probs=tokens.logprobs,
                advantage=advantage,
                model_version=version,
                group_id=group,
                metrics={"reward": reward},
                enqueued_at=time.time(),
            )
