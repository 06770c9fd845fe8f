"""Branching: try two ways from the same moment, keep the better one. Run it with `python examples/branching.py`."""

from __future__ import annotations

from terminal_gym.env import TerminalEnv
from terminal_gym.sandbox.base import shared_runtime
from terminal_gym.tasks.catalogue import find_task

IDEAS = ("sort -n scraps/* | head -3", "ls scraps | head -3")

if __name__ == "__main__":
    task = find_task("TerminalTraj/torn-letter")
    runtime = shared_runtime("auto")
    runtime.build(task.image)
    with TerminalEnv(task, runtime=runtime, action_mode="bash") as env:
        env.reset()
        env.step("mkdir -p /tmp/work && cd /tmp/work && ln -s /app/scraps scraps")
        rewards = []
        for idea, branch in zip(IDEAS, env.branch(len(IDEAS)), strict=True):
            with branch:
                _, info = branch.reset()  # a sandbox of its own, in /tmp/work, with the link already there
                seen, *_ = branch.step(idea)
                print(f"step {info['steps'] + 1}: {seen['output'].splitlines()[:1]}")
                rewards.append(branch.step("<submit>")[1])
        seen, *_, info = env.step("pwd")
    print(
        f"{len(rewards)} branches, rewards {rewards}; the parent is at step {info['steps']} in {seen['output'].strip()}"
    )
