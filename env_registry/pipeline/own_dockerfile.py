"""A repository's own Dockerfile, read: which stages are needed, and whether every instruction can be followed.

Followed (follow.py) is what `terminal_gym/sandbox/dockerfile.py` reads, with several stages, COPY --from and --chown
among them. Rejection: dockerfile, which names the instruction that is not, and its line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from env_registry.pipeline.stage import Rejected
from terminal_gym.errors import BuildFailed
from terminal_gym.sandbox import dockerfile
from terminal_gym.sandbox.dockerfile import WITHOUT_FILES, Instruction

NAME = "Dockerfile"
_FOLLOWED = ("RUN", "COPY", "ADD", "ENV", "ARG", "USER", "WORKDIR", *WITHOUT_FILES)
OPTION = re.compile(r"--(mount|network|security)=(\S+)\s+")


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it."""

    base: str  # an image, or the name of an earlier stage
    names: tuple[str, ...]  # what later ones call it: its number, and its name where it has one
    steps: tuple[Instruction, ...]

    @property
    def uses(self) -> set[str]:
        """The stages and images that it needs."""
        return {self.base} | {name.lower() for step in self.steps if (name := _options(step).get("from"))}


def own_dockerfile(folder: Path) -> Path | None:
    """Return the Dockerfile at the top of a repository, None where there is none."""
    path = folder / NAME
    return path if path.is_file() and not path.is_symlink() else None


def read_stages(file: Path) -> list[Stage]:
    """Return the stages that the last one needs, itself the last.

    Raises:
        Rejected: "dockerfile".
    """
    stages: list[Stage] = []
    early: dict[str, str] = {}
    try:
        for step in dockerfile.parse(file):
            if step.name == "FROM":
                base, name = dockerfile.base_of(dockerfile.substitute(step.text, early), file, step)
                known = {each for stage in stages for each in stage.names[1:]}
                base = base.lower() if base.lower() in known else base
                stages.append(Stage(base, (str(len(stages)), *([name] if name else [])), ()))
            elif stages:
                _check(step)
                stages[-1] = replace(stages[-1], steps=(*stages[-1].steps, step))
            elif step.name == "ARG":
                early |= dockerfile.argument(step.text, early)
            else:
                raise Rejected("dockerfile", f"line {step.line}: {step.name} before the first FROM")
    except (BuildFailed, ValueError) as error:
        raise Rejected("dockerfile", str(error).removeprefix(f"{file.parent}/")) from error
    if not stages:
        raise Rejected("dockerfile", "no FROM")
    needed = {stages[-1].names[0]}
    for stage in reversed(stages):
        needed |= stage.uses if needed & set(stage.names) else set()
    return [stage for stage in stages if needed & set(stage.names)]


def _check(step: Instruction) -> None:
    def no(why: str) -> Rejected:
        return Rejected("dockerfile", f"line {step.line}: {step.name} {why}")

    if step.name not in _FOLLOWED:
        raise no("is not followed")
    if step.name in ("RUN", "COPY", "ADD") and re.search(r"<<-?\s*[\"']?\w+[\"']?\s*($|\s)", step.text):
        raise no("with a here-document is not followed")
    if step.name == "RUN" and (
        other := [
            text for kind, text in OPTION.findall(step.text) if kind == "mount" and "type=cache" not in text
        ]
    ):
        raise no(f"with {other[0]} is not followed")
    if step.name in ("COPY", "ADD"):
        if unknown := sorted(set(_options(step)) - {"from", "chown", "chmod", "link"}):
            raise no(f"with --{unknown[0]} is not followed")
        if re.search(r"(^|[\s\"'])(https?|git|ssh)://|git@", step.text):
            raise no("of an address is not followed")


def words_of(step: Instruction, values: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the options of a COPY or an ADD, and its sources with the target after them.

    Raises:
        ValueError: A quote is not closed.
    """
    text = dockerfile.substitute(step.text, dict(values))
    return dockerfile.options(dockerfile.exec_form(text) or shlex.split(text))


def _options(step: Instruction) -> dict[str, str]:
    return words_of(step, {})[0] if step.name in ("COPY", "ADD") else {}
