"""Finds the strict judge that is fair to a foreign task: the oracle passes, and who does nothing fails.

Tried in this order, the first that fits is kept: trusted pytest on the restarted machine, as nobody and as root; the
format's own script there; then both beside the running machine (`live`, for services). One episode of the oracle and
one of nobody serve all of them, each on a snapshot of its own.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from terminal_gym.agents.agent import open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import Runtime, Sandbox
from terminal_gym.tasks.calibration import Calibration
from terminal_gym.tasks.harness import StrictSpec
from terminal_gym.tasks.task import Mode, Task
from terminal_gym.validation.foreign import ForeignValidator
from terminal_gym.validation.verdict import Verdict

User = Literal["nobody", "root"]
Judge = Literal["pytest", "script"]


@dataclass(frozen=True)
class Way:
    """One way to judge strictly."""

    judge: Judge
    mode: Mode
    user: User

    def on(self, task: Task) -> Task:
        """Return the task, judged in this way."""
        validator = replace(task.validator, mode=self.mode, tested_code_user=self.user, artifacts=())
        return replace(task, validator=validator, strict=StrictSpec(self.judge, calibrated=True))

    def __str__(self) -> str:
        return f"{self.judge}, {self.mode}, {self.user}"


def ways(task: Task) -> Iterator[Way]:
    """Yield the ways to try, the strongest first."""
    trusted = task.script is not None and task.script.parser in ("pytest", "reward-file")
    trusted = trusted and any(task.validator.tests.rglob("test_*.py"))
    for mode in ("restart", "live"):
        if trusted:
            yield Way("pytest", mode, "nobody")
            yield Way("pytest", mode, "root")
        yield Way("script", mode, "root")


def calibrate(
    task: Task, *, runtime: Runtime, told: Callable[[str], None] = lambda text: None
) -> Calibration | None:
    """Return the calibration of a foreign task, None where it has no solution or needs none.

    Raises:
        SandboxError: The machine could not play it.
    """
    if task.strict.calibrated is None or not task.has_solution:
        return None
    if task.steps or (task.script is not None and task.script.machine is not None):
        chosen = [
            Way("script", "restart", "root")
        ]  # each step, and a verifier of its own, has its script alone
    else:
        chosen = list(ways(task))
    solved = _tried(task, "oracle", chosen, runtime)
    idle = _tried(task, "nop", [way for way in chosen if solved[way] == "passed"][:1], runtime)
    fair = next((way for way in chosen if solved[way] == "passed" and idle.get(way) == "failed"), None)
    for way in chosen:
        told(f"{task.ref}: {way}: oracle {solved[way]}, nobody {idle.get(way, 'not tried')}")
    best = fair or chosen[0]
    return Calibration(
        task=task.folder.name,
        hash=task.content_hash(),
        judge=best.judge,
        mode=best.mode,
        user=best.user,
        fair=fair is not None,
        note="" if fair == chosen[0] else _note(chosen, solved, idle, fair),
        date=datetime.date.today().isoformat(),
    )


def _note(chosen: list[Way], solved: dict[Way, str], idle: dict[Way, str], fair: Way | None) -> str:
    if fair is not None:
        passed_over = chosen[: chosen.index(fair)]
        return f"the oracle does not pass by {'; '.join(map(str, passed_over))}"
    if not any(found == "passed" for found in solved.values()):
        return "the oracle passes in no way that was tried"
    return "who does nothing does not fail"


def _tried(task: Task, agent: str, chosen: list[Way], runtime: Runtime) -> dict[Way, str]:
    """Play one episode and judge it in every way; returns way → status."""
    if not chosen:
        return {}
    if task.steps or (task.script is not None and task.script.machine is not None):
        with TerminalEnv(task, runtime=runtime) as env:
            return dict.fromkeys(chosen, run_episode(env, open_agent(agent)).outcome.status)
    trying = _Trying(chosen)
    with TerminalEnv(task, runtime=runtime, validator=trying) as env:
        outcome = run_episode(env, open_agent(agent)).outcome
    return {way: trying.found.get(way, outcome.status) for way in chosen}


class _Trying:
    """Judges in one way after the other until one passes, the machine running meanwhile: each looks at a snapshot."""

    def __init__(self, chosen: list[Way]):
        self._chosen = chosen
        self.found: dict[Way, str] = {}

    def judge(self, sandbox: Sandbox, task: Task, *, runtime: Runtime) -> Verdict:
        verdict: Verdict | None = None
        for way in self._chosen:
            judge = ForeignValidator("strict", both=False, stops=False)
            verdict = judge.judge(sandbox, way.on(task), runtime=runtime)
            self.found[way] = verdict.status
            if verdict.passed:
                break
        sandbox.stop()
        for way in self._chosen:
            self.found.setdefault(way, "not needed")
        assert verdict is not None
        return verdict
