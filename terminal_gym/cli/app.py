"""The command line as a whole: its commands, those of the packages beside it, and what an error exits with."""

from __future__ import annotations

import pkgutil
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import NoReturn

import typer

from terminal_gym.cli import audit, doctor, images, play, rollout, run, runs, tasks, view
from terminal_gym.cli.report import BROKEN, USAGE, complain
from terminal_gym.errors import TerminalGymError, UsageError

GROUP = "terminal_gym.commands"  # entry points of other packages: name → "module:app", a typer application
CHECKOUT = {
    "train": "training.cli:app",
    "bench": "benchmarks.cli:app",
    "registry": "env_registry.cli:app",
    "pipeline": "env_registry.pipeline.cli:app",
}

app = typer.Typer(
    name="tgym",
    help=(
        "Tasks in Docker images, played on a real terminal, judged by executable validators.\n\n"
        "TASK is an id of a catalogue (see `tgym tasks list`) or a path to a task folder, starting with ./ or /."
    ),
    epilog="Exit codes: 0 passed, 1 failed, 2 usage, 3 broken (machine, task, or an uncaught exception).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("play")(play.play)
app.command("rollout")(rollout.rollout)
app.command("stats")(runs.stats)
app.command("repair")(runs.repair)
app.command("export")(runs.export)
app.command("import")(runs.import_)
app.command("judge")(runs.judge)
app.command("replay")(runs.replay)
app.command("view")(view.view)
app.command("audit")(audit.audit)
app.command("doctor")(doctor.doctor)
app.command("reap")(images.reap)
app.add_typer(tasks.app, name="tasks")
app.add_typer(images.app, name="images")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    args = list(sys.argv[1:] if argv is None else argv)
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # unwinds: sandboxes are closed
    try:
        if args and args[0] in (elsewhere := _elsewhere()):
            _hand_over(args[0], elsewhere[args[0]], args[1:])
        app(args, prog_name="tgym")
        sys.exit(0)
    except UsageError as error:
        complain(str(error))
        sys.exit(USAGE)
    except TerminalGymError as error:
        complain(f"{type(error).__name__}: {error}")
        sys.exit(BROKEN)
    except Exception:
        complain(traceback.format_exc())
        complain(
            "This is a bug in terminal-gym, or in a package beside it. Please report it with the lines above."
        )
        sys.exit(BROKEN)


def _elsewhere() -> dict[str, str]:
    """Return the commands of other packages: name → where its application is."""
    return CHECKOUT | {point.name: point.value for point in entry_points(group=GROUP)}


def _hand_over(name: str, where: str, args: list[str]) -> None:
    """Run another package's command; it is imported only now."""
    try:
        other = pkgutil.resolve_name(where)
    except ModuleNotFoundError as error:
        package = where.partition(".")[0]
        if error.name == package:
            missing = (
                "is not here: it runs from an editable checkout. Clone the repository, then: pip install -e ."
            )
        elif error.name == where.partition(":")[0]:
            missing = f"does not exist yet: {package} has no command line."
        else:
            missing = f"needs {error.name!r}. In a checkout: pip install -e '.[{name}]'."
        raise UsageError(f"`tgym {name}` {missing}") from error
    other(args, prog_name=f"tgym {name}")
