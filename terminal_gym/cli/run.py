"""`tgym run`: one agent, one task, one verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from terminal_gym.agents.agent import Agent, open_agent
from terminal_gym.cli.ready import RuntimeName, ready
from terminal_gym.cli.report import EXIT, as_object, say, show_episode, show_json
from terminal_gym.errors import UsageError
from terminal_gym.tasks.catalogue import find_task
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory import asciicast
from terminal_gym.trajectory.record import Grading


def run(
    task: Annotated[str, typer.Argument(metavar="TASK")],
    agent: Annotated[str, typer.Option(help="oracle, nop, partial or scripted.")] = "oracle",
    script: Annotated[Path | None, typer.Option(help="For scripted: a JSON or YAML list of actions.")] = None,
    runtime: RuntimeName = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")] = False,
    cast: Annotated[Path | None, typer.Option(help="Leave an asciicast of the episode here.")] = None,
    seed: Annotated[int | None, typer.Option(help="Handed to reset.")] = None,
    grading: Annotated[
        str,
        typer.Option(help="Whose verdict is the reward: strict, or parity (the task format's own rules)."),
    ] = "strict",
) -> None:
    """Play one episode and print its verdict. Exit codes: 0 passed, 1 failed, 2 usage, 3 broken."""
    player = _agent(agent, script)
    if cast is not None and not cast.absolute().parent.is_dir():
        raise typer.BadParameter(f"{cast.parent} is no folder")
    try:
        found = find_task(task)
        code = _play(found, player, runtime=runtime, json=json, cast=cast, seed=seed, grading=grading)
    except UsageError:
        raise
    except (
        Exception
    ) as error:  # whoever reads --json gets one object for whatever went wrong; main says the rest
        if json:
            facts = {"task": task, "agent": agent, "runtime": runtime}
            show_json(facts | NO_EPISODE | {"reason": f"{type(error).__name__}: {error}"})
        raise
    raise typer.Exit(code)


NO_EPISODE: dict[str, object] = {
    "image_digest": None, "status": "broken", "reward": None, "checks": [], "integrity": [], "steps": 0, "seconds": {},
}  # fmt: skip


def _agent(name: str, script: Path | None) -> Agent:
    if (name == "scripted") != (script is not None):
        raise typer.BadParameter("--script FILE goes with --agent scripted, and only with it")
    return open_agent(name, script=script) if script is not None else open_agent(name)


def which(grading: str) -> Grading:
    """Return `grading` where it is one; raises BadParameter where it is not."""
    if grading not in ("strict", "parity"):
        raise typer.BadParameter(f"--grading is {grading!r}; it must be strict or parity")
    return "parity" if grading == "parity" else "strict"


def _play(
    found: Task, player: Agent, *, runtime: str, json: bool, cast: Path | None, seed: int | None, grading: str
) -> int:
    # Here, not above: `tgym tasks list` needs neither a terminal nor a sandbox.
    from terminal_gym.env import TerminalEnv
    from terminal_gym.rollout.episode import run_episode

    with (
        ready(runtime, found) as (maker, image),
        TerminalEnv(found, runtime=maker, record=cast is not None, grading=which(grading)) as env,
    ):
        played = run_episode(env, player, seed=seed)
    if cast is not None:
        title = f"{played.task} ({played.agent})"
        asciicast.write(cast, played.frames, rows=played.rows, cols=played.cols, title=title)
        say(f"recorded: {cast}")
    if json:
        show_json(as_object(played, image))
    else:
        show_episode(played)
    return EXIT[played.outcome.status]
