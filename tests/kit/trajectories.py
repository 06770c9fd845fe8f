"""Made-up trajectories: of a given length, deterministic, with all that a record can hold."""

from __future__ import annotations

import random
from typing import Literal

from terminal_gym.trajectory.dialogue import Message, Turn, Usage
from terminal_gym.trajectory.record import Action, Check, Frame, Observation, Outcome, Step, Trajectory

DONE = '{"analysis": "a", "plan": "p", "commands": [{"keystrokes": "ls\\n", "duration": 0.1}], "task_complete": false}'


def trajectory(
    task: str = "TerminalTraj/made-up",
    attempt: int = 0,
    *,
    status: Literal["passed", "failed", "broken"] = "passed",
    turns: int = 3,
    agent: str = "terminus",
    seed: int = 0,
    ids: bool = True,
) -> Trajectory:
    """Return a trajectory with one model call per step; its conversation is one, its token ids a prefix chain."""
    chance = random.Random(f"{task} {attempt} {seed}")
    steps = tuple(_step(k, chance, ids=ids) for k in range(turns))
    reward = {"passed": 1.0, "failed": 0.0, "broken": None}[status]
    return Trajectory(
        task=task,
        task_hash="sha256:task",
        agent=agent,
        runtime="docker",
        image_digest="sha256:image",
        attempt=attempt,
        seed=seed,
        steps=steps,
        outcome=Outcome(
            status,
            reward,
            reason="" if status == "passed" else "checks",
            checks=(
                Check("test_outputs.py::test_made", "passed" if status == "passed" else "failed", "E assert"),
            ),
        ),
        seconds={"reset": 0.2, "agent": 1.0, "verify": 0.5, "total": 1.7},
        frames=tuple(
            Frame(0.5 * k, "in" if k % 2 else "out", f"\x1b[1mframe {k} é\r\n".encode() + b"\xff\x00")
            for k in range(2 * turns)
        ),
        instruction="Make it.",
        model="openai/tiny",
        began_at="2026-11-24T10:00:00+00:00",
        versions={"terminal-gym": "0.1.0"},
    )


def _step(k: int, chance: random.Random, *, ids: bool) -> Step:
    screen = f"$ ls\nfile{chance.randrange(10**6)}\n$"
    turn = Turn(
        messages=(Message("user", f"Make it.\n{screen}" if k == 0 else f"New Terminal Output:\n{screen}"),),
        reply=Message("assistant", DONE),
        fresh=k == 0,
        kept_ids=5 * k,
        prompt_ids=tuple(chance.randrange(1000) for _ in range(3)) if ids else (),
        output_ids=tuple(chance.randrange(1000) for _ in range(2)) if ids else (),
        logprobs=(-0.5, -0.25) if ids else (),
        usage=Usage(prompt_tokens=5 * k + 3, completion_tokens=2, cached_tokens=5 * k, cost_usd=0.001),
        seconds=0.1,
    )
    action = Action(keys=(b"ls\n",), waits_s=(0.1,), text=DONE, turns=(turn,))
    return Step(action, Observation(screen, screen, (2, 2), 0, "prompt"), 1.0 * k, k + 0.5)
