"""Instances of families, drawn and written as task folders: the same family, split, seed and count give the same bytes.

FOLDER/<family>-<split>-<seed>-<number>/   a task folder, see docs/tasks.md
FOLDER/index.jsonl                         so that the folder is a catalogue
FOLDER/manifest.jsonl                      every task, in order
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from env_registry.index import write_index
from env_registry.templates import build, data, interactive, systems
from env_registry.templates.draft import SPLITS, Draft, Family, Numbers, Split
from terminal_gym.errors import BadSetting, StoreError, UnknownName

FAMILIES = {
    family.name: family
    for family in (*data.FAMILIES, *systems.FAMILIES, *build.FAMILIES, *interactive.FAMILIES)
}
_TRIES = 1000  # to draw an instruction that no other instance of the set has
_BASE = (Path(__file__).parents[1] / "builtin" / "lighthouse" / "Dockerfile").read_text("utf-8")
_CHECK = """

def test_{test}():
    assert Path("/app/{path}").read_text("utf-8").split() == {words!r}
"""
_MODE = """

def test_mode_of_{test}():
    assert Path("/app/{path}").stat().st_mode & 0o777 == 0o{mode:o}
"""


@dataclass(frozen=True)
class Instance:
    """One drawn instance."""

    family: Family
    split: Split
    seed: int
    number: int
    draft: Draft

    @property
    def name(self) -> str:
        return f"{self.family.name}-{self.split}-{self.seed}-{self.number:04d}"


def chosen(names: Sequence[str]) -> list[Family]:
    """Return the families of these names or domains; none: every one.

    Raises:
        UnknownName: Neither a family nor a domain.
    """
    domains = {family.domain for family in FAMILIES.values()}
    for name in names:
        if name not in FAMILIES and name not in domains:
            raise UnknownName("family or domain", name, known=[*FAMILIES, *sorted(domains)])
    return [f for f in FAMILIES.values() if not names or f.name in names or f.domain in names]


def drawn(family: Family, *, split: Split, seed: int, count: int) -> Iterator[Instance]:
    """Yield `count` instances with different instructions; a longer series begins with a shorter one.

    Raises:
        BadSetting: No such split, or the family cannot give so many.
    """
    if split not in SPLITS:
        raise BadSetting(f"split is {split!r}; it must be one of {', '.join(SPLITS)}.")
    seen: set[str] = set()
    for number in range(count):
        rng = random.Random(f"{family.name} {split} {seed} {number}")
        for _ in range(_TRIES):
            draft = family.draw(Numbers(rng, split))
            if draft.instruction not in seen:
                break
        else:
            raise BadSetting(f"{family.name} has no more than {number} instances in {split}. Ask for fewer.")
        seen.add(draft.instruction)
        yield Instance(family, split, seed, number, draft)


def write(instances: Iterable[Instance], folder: Path) -> list[str]:
    """Write task folders, an index and a manifest; returns the tasks' names.

    Raises:
        StoreError: The folder is not empty, or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty. Name a new folder.")
    names = []
    try:
        for instance in instances:
            _write_task(instance, folder / instance.name)
            names.append(instance.name)
        write_index(folder)
        lines = "".join(json.dumps({"path": name}) + "\n" for name in names)
        (folder / "manifest.jsonl").write_text(lines, "utf-8")
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}.") from error
    return names


def _write_task(instance: Instance, folder: Path) -> None:
    draft = instance.draft
    for path, text in draft.files.items():
        file = folder / "files" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        file.chmod(draft.modes.get(path, 0o755 if text.startswith("#!") else 0o644))
    (folder / "tests").mkdir()
    (folder / "tests" / "test_outputs.py").write_text(_tests(instance), "utf-8")
    (folder / "Dockerfile").write_text(_BASE, "utf-8")
    (folder / "task.yaml").write_text(
        yaml.safe_dump(_task(instance), sort_keys=False, width=110, default_flow_style=False), "utf-8"
    )
    for stem, commands in (("solution", draft.solution), ("partial", draft.partial)):
        entries = [{"command": command, "max_timeout_sec": 20} for command in commands]
        (folder / f"{stem}.yaml").write_text(yaml.safe_dump(entries, sort_keys=False), "utf-8")


def _task(instance: Instance) -> dict[str, object]:
    draft, family = instance.draft, instance.family
    judged = sorted({*draft.wanted, *draft.wanted_modes})
    # Files that the instruction names cross into a pristine machine; a state of the machine is judged where it is.
    is_named = all(re.search(rf"\b{re.escape(path)}\b", draft.instruction) for path in judged)
    is_files = is_named and not draft.wanted_modes
    by_mode = {"artifacts": [f"/app/{path}" for path in judged]} if is_files else {"mode": "restart"}
    return {
        "instruction": f"{draft.instruction}\n",
        "difficulty": family.difficulty,
        "category": family.domain,
        "tags": ["template", family.name],
        "author_name": "The terminal-gym authors",
        "parser_name": "pytest",
        "max_agent_timeout_sec": 300,
        "max_test_timeout_sec": 60,
        "split": instance.split,
        "family": family.name,
        "seed": instance.seed,
        "terminal_gym": {
            "domain": family.domain,
            "mode": "artifacts",
            **by_mode,
            "workdir": "/app",
            "limits": {
                "steps": 4 * (len(draft.solution) + 1), "cpus": 1, "memory_mb": 512, "pids": 64, "disk_mb": 64,
                "network": False,
            },
            "host": {"allowed": True, "commands": ["bash"]},
            "expected": [f"test_outputs.py::{name}" for name in _test_names(draft)],
        },
    }  # fmt: skip


def _tests(instance: Instance) -> str:
    draft = instance.draft
    checks = [_CHECK.format(test=path, path=path, words=list(words)) for path, words in draft.wanted.items()]
    modes = [_MODE.format(test=path, path=path, mode=mode) for path, mode in draft.wanted_modes.items()]
    head = f'"""The final state of {instance.name}."""\n\nfrom pathlib import Path\n'
    return "".join([head, *checks, *modes])


def _test_names(draft: Draft) -> list[str]:
    return [f"test_{path}" for path in draft.wanted] + [f"test_mode_of_{path}" for path in draft.wanted_modes]
