"""Families of the domain `systems`: programs that say what they lack, and permissions."""

from __future__ import annotations

from env_registry.templates.data import answer
from env_registry.templates.draft import Draft, Family, Numbers

_GATE = """#!/bin/bash
{cases}
echo code {code}
"""
_START = """#!/bin/bash
cd /app
for part in {parts}; do
  [ -e $part ] || {{ echo missing $part; exit 1; }}
done
echo $1 > started
echo ready
"""


def gate(numbers: Numbers) -> Draft:
    """A program asks for one more argument each time, and gives its code when it has all of them."""
    *passes, code = numbers.several(4)
    cases = "\n".join(
        f'[ "${at}" = {number} ] || {{ echo need {number}; exit 1; }}' for at, number in enumerate(passes, 1)
    )
    calls = [f"./gate {' '.join(passes[:count])}" for count in (1, 2, 3)]
    return Draft(
        instruction=f"Pass ./gate with {passes[0]} and what it needs. Write its code to out.",
        files={"gate": _GATE.format(cases=cases, code=code)},
        solution=(*calls, f"echo {code} > out"),
        partial=(*calls[:2], f"echo {passes[2]} > out"),
        wanted=answer(code),
    )


def mend(numbers: Numbers) -> Draft:
    """A program does not start before every file it misses is there; each run names one of them."""
    name, *parts = numbers.several(4)
    run = f"./start {name}"
    mended = [command for part in parts for command in (run, f"touch {part}")]
    return Draft(
        instruction=f"Get {run} to be ready.",
        files={"start": _START.format(parts=" ".join(parts))},
        solution=(*mended, run),
        partial=tuple(mended),
        wanted={"started": (name,), **dict.fromkeys(parts, ())},
    )


def lock(numbers: Numbers) -> Draft:
    """A file is to have the permissions of another one, which it names."""
    name, model, decoy = numbers.several(3)
    mode, other = numbers.rng.sample([m for m in range(0o400, 0o1000) if m != 0o644], 2)
    looks = (f"cat {name}", f"stat -c %a {model}")
    return Draft(
        instruction=f"Give file {name} the mode of its model.",
        files={name: f"model {model}\n", model: "", decoy: ""},
        modes={model: mode, decoy: other},
        solution=(*looks, f"chmod {mode:o} {name}"),
        partial=(*looks, f"chmod {mode:o} {decoy}"),
        wanted={name: ("model", model)},
        wanted_modes={name: mode},
    )


FAMILIES = (
    Family("gate", "systems", 3, gate),
    Family("mend", "systems", 3, mend),
    Family("lock", "systems", 2, lock),
)
