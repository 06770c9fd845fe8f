"""`make demo`: a few built-in tasks, solved by the oracle and failed by the agent that does nothing.

Takes Docker where its daemon answers and can make the images, else the embedded runtime on this machine's own root: no
daemon, no download, no root. Leaves a recording of each episode in ./demo-out (play one with `asciinema play`).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from terminal_gym.agents.agent import open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import SandboxError, TaskError
from terminal_gym.rollout.episode import run_episode
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory import asciicast

TASKS = ("torn-letter", "lighthouse", "bird-census")
WANTED = {"oracle": "passed", "nop": "failed"}
OUT = Path("demo-out")
console = Console()


def main() -> int:
    """Play every task with both agents; returns 0 where each episode ended as it should."""
    began = time.monotonic()
    tasks = [find_task(f"TerminalTraj/{name}") for name in TASKS]
    runtime = ready_runtime(tasks)
    table = Table(title=f"terminal-gym on {runtime.name}", title_justify="left")
    for heading in ("task", "agent", "verdict", "reward", "steps", "seconds", "recording"):
        table.add_column(heading, justify="right" if heading in ("reward", "steps", "seconds") else "left")
    surprises = 0
    for task in tasks:
        for agent, wanted in WANTED.items():
            row, status = play(task, agent, runtime)
            surprises += status != wanted
            table.add_row(*row, style="" if status == wanted else "red")
    runtime.close()
    console.print(table)
    console.print(f"{len(TASKS) * len(WANTED)} episodes in {time.monotonic() - began:.1f} s.")
    return 1 if surprises else 0


def play(task: Task, agent: str, runtime: Runtime) -> tuple[list[str], str]:
    """Play one episode; returns its row and its status."""
    with TerminalEnv(task, runtime=runtime, record=True) as env:
        played = run_episode(env, open_agent(agent))
    cast = OUT / f"{task.ref.name}-{agent}.cast"
    asciicast.write(cast, played.frames, rows=played.rows, cols=played.cols, title=f"{task.ref} ({agent})")
    outcome = played.outcome
    reward = "none" if outcome.reward is None else f"{outcome.reward:.0f}"
    verdict = outcome.status + (f" ({outcome.reason})" if outcome.status == "broken" else "")
    seconds = f"{played.seconds['total']:.1f}"
    return [task.ref.name, agent, verdict, reward, str(len(played.steps)), seconds, str(cast)], outcome.status


def ready_runtime(tasks: list[Task]) -> Runtime:
    """Return a runtime that holds the images of `tasks`: the first that works, of Docker and the embedded one."""
    OUT.mkdir(exist_ok=True)
    for name in ("docker", "namespace"):
        try:
            runtime = open_runtime(name)
            runtime.check()
            for task in tasks:
                image = runtime.build(
                    task.image, log=lambda line: console.print(line[:100], style="dim", markup=False)
                )
                console.print(f"{name}: {task.image.name} {image.substituted}", style="dim", markup=False)
        except (SandboxError, TaskError) as error:
            console.print(
                f"{name} is passed over: {str(error).splitlines()[0]}", style="yellow", markup=False
            )
        else:
            return runtime
    console.print("No runtime works here. `tgym doctor` says what to install.", style="red")
    sys.exit(3)


if __name__ == "__main__":
    sys.exit(main())
