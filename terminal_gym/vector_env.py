"""ThreadVectorEnv: many TerminalEnvs at once, one thread each while they work; one that fails does not stop the rest.

An environment waits for its sandbox nearly all of the time, so threads are enough, and no observation is copied
between processes. Ended slots wait for `reset(options={"reset_mask": …})`: an automatic reset would start a sandbox
inside a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from terminal_gym.env import Info, TerminalEnv
from terminal_gym.errors import BadAction, BadSetting, EpisodeNotRunning, UsageError
from terminal_gym.spaces import as_dict
from terminal_gym.trajectory.record import Action, Observation

Array = npt.NDArray[Any]
Stepped = tuple[dict[str, Any], float, bool, bool, Info]


class ThreadVectorEnv(VectorEnv[dict[str, Any], Sequence[str | Action], Array]):
    """`num_envs` environments made with the same settings.

    Observations are dicts as those of one environment: text as a tuple of strings, `cursor` (num_envs, 2), `exit_code`
    (num_envs,). With a manifest, slots are dealt different tasks until each was dealt once.

    A slot whose sandbox or task fails is truncated with reward nan and `infos["status"] == "broken"`, also where it
    failed in `reset`: then its next step says so. If every slot fails in `reset`, the first error is raised.

    Args:
        num_envs: Slots.
        max_episode_steps: Steps after which a slot is ended and judged, beside the task's own limit.
        settings: As for `TerminalEnv`.

    Source: Gymnasium 1.x, `AutoresetMode.DISABLED`.
    """

    def __init__(self, num_envs: int = 1, *, max_episode_steps: int | None = None, **settings: Any):
        super().__init__()
        if num_envs < 1:
            raise BadSetting(f"num_envs is {num_envs}; it must be at least 1.")
        self.num_envs = num_envs
        self.envs = [TerminalEnv(**settings, max_steps=max_episode_steps) for _ in range(num_envs)]
        first = self.envs[0]
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = first.render_mode
        self.single_action_space, self.single_observation_space = first.action_space, first.observation_space
        self.action_space = batch_space(first.action_space, num_envs)
        self.observation_space = batch_space(first.observation_space, num_envs)
        self._pool = ThreadPoolExecutor(num_envs, "terminal-env")
        self._seen = [self._blank() for _ in range(num_envs)]
        self._terminated = np.zeros(num_envs, dtype=np.bool_)
        self._truncated = np.zeros(num_envs, dtype=np.bool_)
        self._was_reset = np.zeros(num_envs, dtype=np.bool_)
        self._failed: dict[int, Exception] = {}  # slots whose reset failed, until the next step has said so
        self._deck: list[str] = []

    def _blank(self) -> dict[str, Any]:
        """What a slot shows that has no screen."""
        first = self.envs[0]
        return as_dict(Observation("", "", (0, 0)), *first.size, first.output_limit)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Info | None = None,
    ) -> tuple[dict[str, Any], Info]:
        """Reset all slots, or those of `options["reset_mask"]`, at once.

        Args:
            seed: One for all (slot k gets seed + k, and it deals the tasks), or one each; Python's int.
            options: `reset_mask`: (num_envs,) bool. `task`: one task for all slots, or a list with one each.

        Raises:
            UsageError: An option or a task is unknown; nothing was reset.
            SandboxError: No slot could be started.
            TaskError: The same.
        """
        asked = dict(options or {})
        slots = self._slots(asked.pop("reset_mask", None))
        one_for_all = isinstance(seed, int | np.integer)
        if isinstance(seed, int | np.integer):
            self._np_random, self._np_random_seed = seeding.np_random(int(seed))
            self._deck = []
            seeds: Sequence[int | None] = [int(seed) + k for k in range(self.num_envs)]
        else:
            seeds = [None] * self.num_envs if seed is None else seed
        if len(seeds) != self.num_envs:
            raise BadSetting(f"{len(seeds)} seeds for {self.num_envs} environments.")
        tasks = self._tasks(asked.pop("task", None), slots, deal=one_for_all or seed is None)

        def one(k: int) -> tuple[dict[str, Any], Info] | Exception:
            try:
                task = tasks[k]
                return self.envs[k].reset(
                    seed=seeds[k], options=asked | ({} if task is None else {"task": task})
                )
            except Exception as error:  # one slot's fault is not the others'
                return error

        answers = list(self._pool.map(one, slots))
        infos = self._after_reset(slots, answers)
        return self._batched(), infos

    def step(
        self, actions: Sequence[str | Action | None]
    ) -> tuple[dict[str, Any], Array, Array, Array, Info]:
        """Step every slot that has not ended, at once; returns when the last is done.

        Args:
            actions: One each; that of an ended slot is not looked at and may be None.

        Raises:
            BadAction: There are not `num_envs`, or one cannot be typed; nothing was typed anywhere.
            EpisodeNotRunning: Some slot was never reset, or every slot has ended.
        """
        live = self._live(actions)
        rewards, infos = np.zeros(self.num_envs), dict[str, Any]()

        def one(k: int) -> Stepped:
            action = actions[k]
            assert action is not None
            try:
                if k in self._failed:
                    return self._broken(k, self._failed[k])
                return self.envs[k].step(action)
            except Exception as error:  # one slot's fault is not the others'
                self.envs[k].close()
                return self._broken(k, error)

        for k, (seen, reward, terminated, truncated, info) in zip(
            live, self._pool.map(one, live), strict=True
        ):
            self._seen[k], rewards[k] = seen, reward
            self._terminated[k], self._truncated[k] = terminated, truncated
            infos = self._add_info(infos, info, k)
        self._failed.clear()
        return self._batched(), rewards, self._terminated.copy(), self._truncated.copy(), infos

    def render(self) -> tuple[Any, ...] | None:
        """Return each slot's picture, None without a render mode."""
        return tuple(env.render() for env in self.envs) if self.render_mode is not None else None

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return what each slot's method of that name returns, or its attribute."""
        found = [getattr(env, name) for env in self.envs]
        return tuple(self._pool.map(lambda it: it(*args, **kwargs) if callable(it) else it, found))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return each slot's attribute of that name."""
        return tuple(getattr(env, name) for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every slot and end the threads."""
        list(self._pool.map(TerminalEnv.close, self.envs))
        self._pool.shutdown()

    # ── one batch ───────────────────────────────────────────────────────────────────────────────

    def _slots(self, mask: Array | None) -> list[int]:
        if mask is None:
            return list(range(self.num_envs))
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise BadSetting(f"reset_mask must be a numpy array of bool of shape ({self.num_envs},).")
        if not mask.any():
            raise BadSetting("reset_mask names no slot.")
        return [int(k) for k in np.flatnonzero(mask)]

    def _tasks(self, wanted: object, slots: list[int], *, deal: bool) -> dict[int, str | None]:
        """Return each slot's task, None where it is left to the slot."""
        choices = self.envs[0].choices
        if isinstance(wanted, list | tuple | np.ndarray):
            if len(wanted) != self.num_envs:
                raise BadSetting(f"{len(wanted)} tasks for {self.num_envs} environments.")
            tasks = {k: str(wanted[k]) for k in slots}
        elif wanted is not None or not (deal and choices):
            return dict.fromkeys(slots, None if wanted is None else str(wanted))
        else:
            tasks = {k: self._dealt(choices) for k in slots}
        return dict(tasks)

    def _dealt(self, choices: Sequence[str]) -> str:
        if not self._deck:
            self._deck = [choices[int(k)] for k in self.np_random.permutation(len(choices))]
        return self._deck.pop()

    def _after_reset(self, slots: list[int], answers: list[tuple[dict[str, Any], Info] | Exception]) -> Info:
        infos: Info = {}
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        usage = [error for error in errors if isinstance(error, UsageError)]
        if usage or len(errors) == len(slots):
            for k in slots:
                self.envs[k].close()
            self._was_reset[slots] = False
            raise (usage or errors)[0]
        for k, answer in zip(slots, answers, strict=True):
            self._terminated[k] = self._truncated[k] = False
            self._was_reset[k] = True
            self._failed.pop(k, None)
            if isinstance(answer, Exception):
                self._failed[k], self._seen[k] = answer, self._blank()
                info: Info = {"status": "broken", "reason": _reason(answer)}
            else:
                self._seen[k], info = answer
            infos = self._add_info(infos, info, k)
        return infos

    def _live(self, actions: Sequence[str | Action | None]) -> list[int]:
        if isinstance(actions, str) or len(actions) != self.num_envs:
            raise BadAction(f"step takes a sequence of {self.num_envs} actions, one for each environment.")
        if not self._was_reset.all():
            missing = np.flatnonzero(~self._was_reset).tolist()
            raise EpisodeNotRunning(f"Environments {missing} were never reset. Call reset() first.")
        live = [int(k) for k in np.flatnonzero(~(self._terminated | self._truncated))]
        if not live:
            advice = 'Call reset(), or reset(options={"reset_mask": terminated | truncated}).'
            raise EpisodeNotRunning(f"Every episode is over. {advice}")
        for k in live:
            try:
                self.envs[k].check_action(actions[k])
            except BadAction as error:
                raise BadAction(f"environment {k}: {error}") from None
        return live

    def _broken(self, k: int, error: Exception) -> Stepped:
        return self._seen[k], float("nan"), False, True, {"status": "broken", "reason": _reason(error)}

    def _batched(self) -> dict[str, Any]:
        """Return one dict of all slots' observations; nothing in it is used again."""
        columns: dict[str, Callable[[list[Any]], Any]] = {"cursor": np.stack, "exit_code": np.stack}
        return {key: columns.get(key, tuple)([seen[key] for seen in self._seen]) for key in self._seen[0]}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
