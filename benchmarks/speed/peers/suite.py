"""`tgym bench speed --peers`: who takes part, and what is written."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.parity import harness
from benchmarks.speed.peers import page, places
from benchmarks.speed.peers.compare import Found, Maker, Plan, as_json, compare
from benchmarks.speed.peers.places import Absent
from terminal_gym.errors import UnknownName

_OF_OURS = "terminal-gym "  # what the name of a contender that needs no image of the peers begins with


def run(plan: Plan, out: Path, *, only: Iterable[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, and write `out` (JSON) and beside it the page and the plot after each round; returns the JSON.

    Args:
        plan: How much.
        out: The JSON file; `.md` and `.png` beside it.
        only: Names of contenders; empty: all.
        say: Told what is going on.

    Raises:
        UnknownName: There is no such contender.
    """
    with places.lent_folder() as folder:
        known = list(contenders("", folder))
        wanted = list(only) or known
        for name in wanted:
            if name not in known:
                raise UnknownName("contender", name, known=known)
        image = _machine(say) if not all(name.startswith(_OF_OURS) for name in wanted) else ""
        everyone = contenders(image, folder)
        taking_part = {name: everyone[name] for name in everyone if name in wanted}
        try:
            found = compare(taking_part, plan, say=say, keep=lambda found: write(_raw(found, plan), out))
        finally:
            _sweep(image)
    raw = _raw(found, plan)
    write(raw, out)
    return raw


def _raw(found: Mapping[str, Found], plan: Plan) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(as_json(found, plan, versions())))
    return told


def _machine(say: Callable[[str], None]) -> str:
    try:
        return places.machine()
    except Absent as reason:
        say(f"the peers' image: {reason}")
        return ""


def write(raw: dict[str, Any], out: Path) -> None:
    """Write the three files, each whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (out, json.dumps(raw, indent=1) + "\n"),
        (out.with_suffix(".md"), page.as_markdown(raw)),
    ):
        draft = path.with_name(path.name + ".tmp")
        draft.write_text(text, "utf-8")
        draft.replace(path)
    with suppress(ImportError):  # the plot needs the extra [bench]
        page.as_plot(raw, out.with_suffix(".png"))


def contenders(image: str, folder: Path) -> dict[str, Maker]:
    """Return everyone, in the order of their turns; `image` is what the peers start, "" where it cannot be had."""
    floor = partial(_with_image, image, "floor")
    everyone: dict[str, Maker] = {
        "floor: local PTY": partial(places.own_command, "floor", "pty", ""),
        "floor: namespaces": partial(places.own_command, "floor", "namespaces", ""),
        "floor: Engine attach": partial(floor, "engine"),
        "terminal-gym embedded": partial(places.own_command, "ours", "namespace"),
        "terminal-gym docker": partial(places.own_command, "ours", "docker"),
        "terminal-gym docker, judge ahead": partial(places.own_command, "ours", "docker", "ahead"),
        "terminal-gym docker, warm pool": partial(places.own_command, "ours", "docker", "warm"),
    }
    for name, pin in places.pins().items():
        everyone[name] = partial(_peer, pin, image, folder)
    return everyone


def versions() -> dict[str, str]:
    """Return the version of every peer, as it is pinned."""
    lines = (harness.FOLDER / "requirements.txt").read_text("utf-8").splitlines()
    held = dict(line.split("==") for line in lines if "==" in line)
    return {
        name: pin.requires[0].partition("==")[2] if pin.requires else held[name]
        for name, pin in places.pins().items()
    }


def _with_image(image: str, module: str, *args: str) -> list[str]:
    if not image:
        raise Absent("the peers' image cannot be made here")
    return places.own_command(module, *args, image)


def _peer(pin: places.Pin, image: str, folder: Path) -> list[str]:
    if not image:
        raise Absent("the peers' image cannot be made here")
    return places.command(pin, image, folder)


def _sweep(image: str) -> None:
    """Remove what a peer left: containers of the image that nothing else starts, and its networks."""
    if not image:
        return
    asked = ["docker", "ps", "--all", "--quiet", "--filter"]
    for about in (f"ancestor={image}", f"label={places.LABEL}={os.getpid()}"):
        held = subprocess.run([*asked, about], capture_output=True, text=True, check=False).stdout.split()
        if held:
            subprocess.run(["docker", "rm", "--force", "--volumes", *held], capture_output=True, check=False)
    listed = ["docker", "network", "ls", "--quiet", "--filter", "name=tgym-speed-"]
    for network in subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split():
        subprocess.run(["docker", "network", "rm", network], capture_output=True, check=False)
