"""Stage 4: images → instances, as task folders. Two writers: grounded templates, and a model.

WORK/tasks/<id>/         a task folder (docs/tasks.md) whose image is the repository's, or that with some files over it
WORK/replies/<id>.txt    what a model said, as it said it

Rejections of the templates: nothing-to-ask, repository-full, family-full. Of a model: bad-json, bad-field, ungrounded,
context-unused, near-copy, contaminated, refused, and those of checks.py. Of both: lint.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from env_registry.pipeline import prompts
from env_registry.pipeline.checks import problems
from env_registry.pipeline.collect import slug
from env_registry.pipeline.context import FOLDER, Material, chosen, material
from env_registry.pipeline.grounded import FAMILIES, UNGROUNDED, drawn, tests_of
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Rejected, Row, Table
from env_registry.pipeline.tree import Drawn, Tree
from env_registry.splits import split_of
from terminal_gym.errors import ContextFull, ModelRefused
from terminal_gym.llm.chat import ChatModel
from terminal_gym.tasks.lint import lint
from terminal_gym.tasks.overlap import Benchmark, open_benchmarks
from terminal_gym.trajectory.dialogue import Message

PROMPT, BARE_PROMPT = "instance-1", "instance-bare-1"  # the latter asks for no solution
_OURS = re.compile(r"(^|/)(\.git|\.venv|node_modules|vendor|\.go|\.m2|__pycache__)(/|$)")
_PRINTABLE = re.compile(rb"[\n\t\x20-\x7e]*")
_TEXT, _SHOWN = 200_000, 12_000  # bytes of a file that may be asked about; characters shown to a model
_FIELDS = {
    "instruction": str,
    "inputs": list,
    "outputs": list,
    "difficulty": str,
    "solution": str,
    "partial": str,
    "tests": str,
}
_SOLUTIONS = ("solution", "partial")
_SHINGLE = 3


@dataclass(frozen=True)
class Wanted:
    """One instance to be written."""

    image: Row
    family: str  # of the templates, or "model"
    number: int

    @property
    def key(self) -> str:
        return f"{slug(self.image.key)}-{self.family}-{self.number}"


class Generator:
    """Writes instances, one after the other.

    Args:
        settings: Of the pipeline.
        table: What was written before; its instructions and families count.
        model: Writes instances as well; None: only the templates do.
    """

    def __init__(self, settings: Settings, table: Table, model: ChatModel | None):
        self._settings, self._model, self._table = settings, model, table
        self._families = Counter(str(row.cells["family"]) for row in table.kept)
        self._repositories = Counter(
            str(row.cells["repository"]) for row in table.kept if row.cells["family"] != "model"
        )
        self._told = [_shingles(str(row.cells["instruction"])) for row in table.kept]
        places = [settings.folder / place for place in settings.generate.benchmarks]
        self._benchmark: Benchmark | None = open_benchmarks(places) if places else None
        self._trees: dict[str, Tree] = {}
        self._context = [row for row in Table(settings.work, "context").kept if row.key in settings.context]

    def items(self, images: Sequence[Row]) -> list[tuple[str, Wanted]]:
        """Return what is to be written for these images; each repository has the families in an order of its own."""
        wanted = [Wanted(image, family, 0) for image in images for family in _shuffled(image.key)]
        if self._model is not None:
            asked = range(self._settings.generate.asked)
            wanted += [Wanted(image, "model", number) for image in images for number in asked]
        return [(one.key, one) for one in wanted]

    def __call__(self, wanted: Wanted) -> Mapping[str, Any]:
        """Return the cells of one instance that was written; raises Rejected for one that was not."""
        tree = self._tree(wanted.image)
        one = self._by_model(wanted, tree) if wanted.family == "model" else self._by_template(wanted, tree)
        folder = self._settings.work / "tasks" / wanted.key
        shutil.rmtree(folder, ignore_errors=True)
        tests, names = one.tests, one.names
        _write(folder, one.drawn, wanted, tests, names)
        if wrong := [finding for finding in lint(folder) if finding.severity == "error"]:
            shutil.rmtree(folder)
            raise Rejected("lint", f"{wrong[0].rule}: {wrong[0].what}")
        self._families[one.drawn.family] += 1
        self._repositories[wanted.image.key] += wanted.family != "model"
        self._told.append(_shingles(one.drawn.instruction))
        return {
            "repository": wanted.image.key,
            "writer": one.writer,
            **one.context,
            "family": one.drawn.family,
            "domain": one.drawn.domain,
            "grounded": one.drawn.family not in UNGROUNDED,
            "language": wanted.image.cells["language"],
            "score": wanted.image.cells["score"],
            "image": wanted.image.cells["image"],
            "digest": wanted.image.cells["digest"],
            "split": split_of(wanted.image.key),
            "instruction": one.drawn.instruction,
            "outputs": list(one.drawn.outputs),
            "path": f"tasks/{wanted.key}",
        }

    # ── by template ─────────────────────────────────────────────────────────────────────────────

    def _by_template(self, wanted: Wanted, tree: Tree) -> _Written:
        limits = self._settings.generate
        if self._repositories[wanted.image.key] >= limits.per_repository:
            raise Rejected("repository-full", f"{limits.per_repository} instances")
        if limits.per_family and self._families[wanted.family] >= limits.per_family:
            raise Rejected("family-full", f"{limits.per_family} instances of {wanted.family}")
        one = drawn(tree, wanted.family, seed=limits.seed + wanted.number)
        if one is None:
            raise Rejected("nothing-to-ask", wanted.family)
        return _Written(one, *tests_of(one), "template", {})

    # ── by a model ──────────────────────────────────────────────────────────────────────────────

    @property
    def _prompt(self) -> str:
        return PROMPT if self._settings.generate.solutions else BARE_PROMPT

    def _by_model(self, wanted: Wanted, tree: Tree) -> _Written:
        assert self._model is not None
        cells = {"name": wanted.image.key, "language": str(wanted.image.cells["language"])}
        row = chosen(self._context, wanted.image.key, wanted.number)
        beside = material(self._settings.work, row) if row is not None else None
        asked = prompts.filled(self._prompt, **cells, listing=_listing(tree), texts=_texts(tree))
        asked = f"{beside.asked}\n{asked}" if beside else asked
        try:
            said = self._model.complete([Message("user", asked)]).message.content
        except (ContextFull, ModelRefused) as error:
            raise Rejected("refused", f"{type(error).__name__}: {error}") from error
        kept = self._settings.work / "replies"
        kept.mkdir(parents=True, exist_ok=True)
        (kept / f"{wanted.key}.txt").write_text(said, "utf-8", errors="replace")
        reply = read_reply(said, solutions=self._settings.generate.solutions)
        for reason, found in problems(reply["tests"], reply["outputs"]):
            raise Rejected(reason, found)
        self._check_inputs(reply["inputs"], tree, beside)
        self._check_instruction(reply)
        names = re.findall(r"^def (test\w*)", reply["tests"], re.M)
        one = Drawn(
            "model", reply["instruction"].strip(), dict.fromkeys(reply["outputs"], ""), reply.get("solution", ""),
            reply.get("partial", ""), tuple(reply["inputs"]), difficulty=reply["difficulty"],
        )  # fmt: skip
        writer = prompts.version(self._prompt)
        if beside is None:
            return _Written(one, reply["tests"], names, writer, {})
        one = replace(one, domain=beside.domain, files=beside.files)
        told = {"context": beside.name, "context_licence": beside.licence}
        return _Written(one, reply["tests"], names, f"{writer}+{beside.version}", told)

    def _check_inputs(self, inputs: Sequence[str], tree: Tree, beside: Material | None) -> None:
        known = {f"/app/{path}" for path in (*tree.texts, *tree.others)}
        laid = {f"/app/{path}" for path in beside.files} if beside else set()
        if missing := [path for path in inputs if path not in known | laid]:
            raise Rejected("ungrounded", f"{missing[0]} is not in the image")
        if known.isdisjoint(inputs):
            raise Rejected("ungrounded", "no file of the repository is among the inputs")
        if laid and laid.isdisjoint(inputs):
            raise Rejected("context-unused", f"no file of {FOLDER} is among the inputs")

    def _check_instruction(self, reply: Mapping[str, Any]) -> None:
        text = reply["instruction"]
        if unnamed := [path for path in reply["outputs"] if path not in text]:
            raise Rejected("bad-field", f"the instruction does not name {unnamed[0]}")
        mine, most = _shingles(text), self._settings.generate.near_copy
        if any(len(mine & other) / max(1, len(mine | other)) >= most for other in self._told):
            raise Rejected("near-copy", "an earlier instruction says nearly the same")
        if self._benchmark and (
            shared := self._benchmark.shared_with(text, reply.get("solution", ""), reply["tests"])
        ):
            raise Rejected("contaminated", f"shares thirteen words with {shared}")

    def _tree(self, image: Row) -> Tree:
        if image.key not in self._trees:
            archive = self._settings.work / "images" / slug(image.key) / "app.tar"
            self._trees = {
                image.key: read_tree(image.key, archive, self._settings.work / image.cells["folder"])
            }
        return self._trees[image.key]


@dataclass(frozen=True)
class _Written:
    drawn: Drawn
    tests: str
    names: list[str]
    writer: str  # "template", or the version of what a model was asked with
    context: Mapping[str, str]  # cells about the material beside the repository, where there was any


def read_reply(said: str, *, solutions: bool = True) -> dict[str, Any]:
    """Return the fields of a model's reply: one JSON object, alone or in one fence, with these fields and no other.

    Args:
        solutions: Whether a reference and a partial solution are among them.

    Raises:
        Rejected: "bad-json" or "bad-field".
    """
    text = said.strip()
    fenced = re.fullmatch(r"```(?:json)?\n(.*?)\n?```", text, re.S)
    try:
        body = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:
        raise Rejected("bad-json", f"{error}: {text[:200]!r}") from error
    if not isinstance(body, dict):
        raise Rejected("bad-json", f"not an object but {type(body).__name__}")
    fields = {name: kind for name, kind in _FIELDS.items() if solutions or name not in _SOLUTIONS}
    if unknown := sorted(set(body) ^ set(fields)):
        raise Rejected("bad-field", f"{unknown[0]!r} is {'missing' if unknown[0] in fields else 'unknown'}")
    for name, kind in fields.items():
        value = body[name]
        if not isinstance(value, kind) or not value:
            raise Rejected(
                "bad-field", f"{name!r} is {value!r:.80}; it must be a {kind.__name__}, and not empty"
            )
        if kind is list and not all(isinstance(path, str) and _is_path(path) for path in value):
            raise Rejected("bad-field", f"{name!r} has an entry that is no absolute path below /app")
    if body["difficulty"] not in ("easy", "medium", "hard"):
        raise Rejected("bad-field", f"difficulty is {body['difficulty']!r}")
    if outside := [path for path in body["outputs"] if not path.startswith("/app/answer/")]:
        raise Rejected("bad-field", f"the output {outside[0]} is not below /app/answer/")
    return body


def _shuffled(repository: str) -> list[str]:
    return sorted(FAMILIES, key=lambda family: hashlib.sha256(f"{repository} {family}".encode()).digest())


def _is_path(path: str) -> bool:
    return path.startswith("/app/") and ".." not in PurePosixPath(path).parts and path.isprintable()


def _listing(tree: Tree) -> str:
    return "\n".join(f"/app/{path}" for path in sorted(tree.texts)[:200])


def _texts(tree: Tree) -> str:
    """Markdown, shell scripts and Dockerfiles first, then code, each cut, up to a bound."""

    def rank(path: str) -> tuple[int, str]:
        name = PurePosixPath(path).name.lower()
        told = name.endswith((".md", ".sh", ".rst")) or name in (
            "dockerfile",
            "makefile",
            "readme",
            "readme.txt",
        )
        return (0 if told else 1, path)

    parts, left = [], _SHOWN
    for path in sorted(tree.texts, key=rank):
        text = tree.texts[path][: min(3_000, left)]
        parts.append(f"=== /app/{path}\n{text}")
        left -= len(text)
        if left <= 0:
            break
    return "\n".join(parts)


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[at : at + _SHINGLE]) for at in range(max(1, len(words) - _SHINGLE + 1)))


# ── what is in an image, and what a task folder holds ───────────────────────────────────────────


def read_tree(name: str, archive: Path, source: Path) -> Tree:
    """Return what stands in /app, from the tar that the build left and the source as it was fetched."""
    texts: dict[str, str] = {}
    others, elves = set[str](), list[str]()
    with tarfile.open(archive, mode="r:", errors="surrogateescape") as tar:
        for entry in tar:
            path = entry.name.removeprefix("app/")
            if not entry.isreg():
                continue
            stream = tar.extractfile(entry)
            body = stream.read(_TEXT + 1) if stream else b""
            if body[:4] == b"\x7fELF":
                elves.append(path)
            came = source / path
            is_own = not _OURS.search(path) and len(body) <= _TEXT and _PRINTABLE.fullmatch(body)
            if is_own and body and came.is_file() and not came.is_symlink() and came.read_bytes() == body:
                texts[path] = body.decode("ascii")
            else:
                others.add(path)
    return Tree(name, texts, frozenset(others), tuple(sorted(elves)))


def _write(folder: Path, one: Drawn, wanted: Wanted, tests: str, names: Sequence[str]) -> None:
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "test_outputs.py").write_text(tests, "utf-8")
    for name, script in (("solution.sh", one.solution), ("partial.sh", one.partial)):
        if script:
            (folder / name).write_text(_script(script), "utf-8")
    lines = [f"FROM {wanted.image.cells['image']}"]
    for path, text in one.files.items():
        (folder / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / path).write_text(text, "utf-8")
    lines += ["COPY files/ /app/"] if one.files else []
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n", "utf-8")
    cells = {
        "instruction": f"{one.instruction}\n",
        "difficulty": one.difficulty,
        "category": "repository",
        "tags": ["pipeline", one.family],
        "author_name": "terminal-gym pipeline",
        "parser_name": "pytest",
        "max_agent_timeout_sec": 300,
        "max_test_timeout_sec": 60,
        "repository": wanted.image.key,
        "language": wanted.image.cells["language"],
        "family": one.family,
        "split": split_of(wanted.image.key),
        "terminal_gym": {
            "domain": one.domain,
            "mode": "artifacts",
            "artifacts": sorted(one.outputs),
            "workdir": "/app",
            "limits": {
                "steps": 60,
                "cpus": 1,
                "memory_mb": 1024,
                "pids": 256,
                "disk_mb": 512,
                "network": False,
            },
            "expected": [f"test_outputs.py::{name}" for name in names],
        },
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(cells, sort_keys=False, width=110), "utf-8")


def _script(body: str) -> str:
    return body if body.startswith("#!") else f"#!/bin/bash\n{body}"
