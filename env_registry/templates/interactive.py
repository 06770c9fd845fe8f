"""Families of the domain `interactive`: programs that ask, and wait for what is typed."""

from __future__ import annotations

from env_registry.templates.data import answer
from env_registry.templates.draft import Draft, Family, Numbers

_ASK = """read -r -p "{question} " said
[ "$said" = {number} ] || {{ echo wrong; exit 1; }}
"""


def _dialogue(questions: list[tuple[str, str]], end: str) -> str:
    asked = "".join(_ASK.format(question=question, number=number) for question, number in questions)
    return f"#!/bin/bash\ncd /app\n{asked}{end}\n"


def vault(numbers: Numbers) -> Draft:
    """A program wants each number said back, and gives its code in the end."""
    name, *said, code = numbers.several(4)
    program = f"vault{name}"
    asks = [(f"say {number}:", number) for number in said]
    return Draft(
        instruction=f"Open ./{program} and write its code to out.",
        files={program: _dialogue(asks, f"echo code {code}")},
        solution=(f"./{program}", *said, f"echo {code} > out"),
        partial=(f"./{program}", *said, f"echo {said[-1]} > out"),
        wanted=answer(code),
    )


def clerk(numbers: Numbers) -> Draft:
    """A program wants three numbers typed, and files the receipt itself."""
    name, *papers = numbers.several(4)
    asks = [
        (f"{kind} {number}?", number) for kind, number in zip(("form", "stamp", "seal"), papers, strict=True)
    ]
    filed = f"echo {name} {' '.join(papers)} > receipt; echo filed"
    return Draft(
        instruction=f"Get the receipt of ./clerk{name}.",
        files={f"clerk{name}": _dialogue(asks, filed)},
        solution=(f"./clerk{name}", *papers),
        partial=(f"./clerk{name}", *papers[:2], "0"),
        wanted={"receipt": (name, *papers)},
    )


def desk(numbers: Numbers) -> Draft:
    """A program asks for a name and its key; the key is in a list."""
    name, key, code = numbers.several(3)
    rows = [f"{name} {key}", *(f"{numbers.one()} {numbers.one()}" for _ in range(4))]
    numbers.rng.shuffle(rows)
    asks = [("name:", name), ("key:", key)]
    return Draft(
        instruction=f"Sign in at ./desk as {name}, with its key from keys. Write the code to out.",
        files={"keys": "".join(f"{row}\n" for row in rows), "desk": _dialogue(asks, f"echo code {code}")},
        solution=(f"grep ^{name} keys", "./desk", name, key, f"echo {code} > out"),
        partial=(f"grep ^{name} keys", "./desk", name, key, f"echo {key} > out"),
        wanted=answer(code),
    )


FAMILIES = (
    Family("vault", "interactive", 3, vault),
    Family("clerk", "interactive", 3, clerk),
    Family("desk", "interactive", 2, desk),
)
