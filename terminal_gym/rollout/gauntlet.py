"""Plays attacks and says what came of each: refused, paid, or no verdict at all.

A cheat must be refused. Where a mode is known to be open to it, it may be paid if the verdict says so in a flag. A
control is honest work under the same attack, and must be paid. Broken is always wrong: an agent has no way to make
the machine answer for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Literal

from terminal_gym.agents.agent import Agent, open_agent
from terminal_gym.agents.scripted import Scripted
from terminal_gym.env import TerminalEnv
from terminal_gym.rollout.attacks import IMPOSSIBLE, NOTHING, Case
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import Runtime
from terminal_gym.tasks.task import Mode, Task
from terminal_gym.trajectory.record import Action, Observation, Status, Trajectory

Result = Literal["refused", "flagged", "honest", "impossible", "paid", "denied", "broken"]
# impossible: the machine cannot carry it out; flagged: paid where the mode is open to it, and the verdict says so
AS_REQUIRED: tuple[Result, ...] = ("refused", "flagged", "honest", "impossible")


@dataclass(frozen=True)
class Finding:
    """What came of one case."""

    attack: str
    row: str
    mechanism: str
    target: str
    mode: Mode
    runtime: str
    control: bool  # after honest work
    result: Result
    status: Status
    reason: str
    integrity: tuple[str, ...]
    seconds: float

    @property
    def is_as_required(self) -> bool:
        return self.result in AS_REQUIRED

    @property
    def key(self) -> tuple[str, str, str, str, bool]:
        """Names the case on its runtime."""
        return self.attack, self.target, self.mode, self.runtime, self.control

    def as_object(self) -> dict[str, object]:
        """Return what is written as JSON."""
        return asdict(self)


class Cheater:
    """Does honest work first where asked to, then types the attack, then submits."""

    name = "cheater"

    def __init__(self, moves: Iterable[Action], *, honest: bool):
        self._honest = honest
        self._work: Agent | None = None  # of the step under way, until it is done
        self._attack = Scripted(tuple(moves))

    def begin(self, task: Task) -> None:
        if self._honest:
            self._work = open_agent("oracle")
            self._work.begin(task)
        self._attack.begin(task)

    def act(self, seen: Observation) -> Action:
        if self._work is not None:
            action = self._work.act(seen)
            if not action.submit:
                return action
            self._work = None
        return self._attack.act(seen)


def play(case: Case, runtime: Runtime) -> Finding:
    """Play one case; the runtime holds its image."""
    began = time.monotonic()
    task = replace(case.task, limits=replace(case.task.limits, steps=None))
    with TerminalEnv(task, runtime=runtime) as env:
        played = run_episode(env, Cheater(case.attack.moves_on(task), honest=case.control))
    outcome = played.outcome
    return Finding(
        attack=case.attack.id,
        row=case.attack.row,
        mechanism=case.attack.mechanism,
        target=case.target,
        mode=case.mode,
        runtime=runtime.name,
        control=case.control,
        result=result_of(case, played),
        status=outcome.status,
        reason=outcome.reason[:300],
        integrity=outcome.integrity,
        seconds=round(time.monotonic() - began, 1),
    )


def result_of(case: Case, played: Trajectory) -> Result:
    """Return what the played case amounts to."""
    outcome = played.outcome
    if outcome.status == "broken":
        return "broken"
    if case.attack is not NOTHING and any(
        step.action.command and step.observation.exit_code == IMPOSSIBLE for step in played.steps
    ):
        return "impossible"
    if case.control:
        return "honest" if outcome.status == "passed" else "denied"
    if outcome.status == "failed":
        return "refused"
    wanted = case.attack.open.get(case.mode, ())
    told = any(kind in flag.replace(":", " ").split() for kind in wanted for flag in outcome.integrity)
    return "flagged" if told else "paid"


def play_all(
    cases: Iterable[Case],
    runtime: Runtime,
    *,
    concurrency: int = 2,
    progress: Callable[[Finding], None] = lambda finding: None,
) -> Iterator[Finding]:
    """Yield a finding per case, in order; `concurrency` of them are played at once."""
    with ThreadPoolExecutor(concurrency, thread_name_prefix="gauntlet") as pool:
        for finding in pool.map(lambda case: play(case, runtime), cases):
            progress(finding)
            yield finding
