"""Families of the domain `build`: the next fault shows when the last one is mended."""

from __future__ import annotations

from env_registry.templates.draft import Draft, Family, Numbers

_BUILD = """#!/bin/bash
cd /app
{checks}
echo $1 > built
echo built
"""
_STEP = """#!/bin/bash
cd /app
[ "$(tail -n 1 log)" = {before} ] || exit 1
echo {number} >> log
echo {says}
"""


def pins(numbers: Numbers) -> Draft:
    """A build wants each part at a version that it only names when it is reached."""
    name, *versions = numbers.several(4)
    parts = dict(zip(("core", "edge", "skin"), versions, strict=True))
    checks = "\n".join(
        f'[ "$(cat {part})" = {version} ] || {{ echo {part} wants {version}; exit 1; }}'
        for part, version in parts.items()
    )
    run = f"./build {name}"
    fixes = [command for part in parts for command in (run, f"echo {parts[part]} > {part}")]
    return Draft(
        instruction=f"Get {run} to build.",
        files={"build": _BUILD.format(checks=checks), **{part: f"{numbers.one()}\n" for part in parts}},
        solution=(*fixes, run),
        partial=tuple(fixes),
        wanted={"built": (name,), **{part: (version,) for part, version in parts.items()}},
    )


def ladder(numbers: Numbers) -> Draft:
    """Each step of a build names the next one; each does its work only after the one before."""
    steps = numbers.several(numbers.rng.choice((3, 4)))
    before = ["start", *steps[:-1]]
    says = [f"next {step}" for step in steps[1:]] + ["done"]
    texts = {
        step: _STEP.format(before=last, number=step, says=said)
        for step, last, said in zip(steps, before, says, strict=True)
    }
    runs = tuple(f"./{step}" for step in steps)
    return Draft(
        instruction=f"Run ./{steps[0]} and each next step until one is done.",
        files={**texts, "log": "start\n"},
        solution=runs,
        partial=runs[:-1],
        wanted={"log": ("start", *steps)},
    )


def join(numbers: Numbers) -> Draft:
    """A list names the two parts of which a file is to be made, in order."""
    name, first, second, decoy = numbers.several(4)
    held = numbers.several(3)
    return Draft(
        instruction=f"Make out from the parts that list {name} names.",
        files={
            name: f"{first} {second}\n",
            **dict(zip((first, second, decoy), [f"{h}\n" for h in held], strict=True)),
        },
        solution=(f"cat {name}", f"cat {first} {second} > out"),
        partial=(f"cat {name}", f"cat {second} {first} > out"),
        wanted={"out": (held[0], held[1])},
    )


FAMILIES = (
    Family("pins", "build", 3, pins),
    Family("ladder", "build", 2, ladder),
    Family("join", "build", 1, join),
)
