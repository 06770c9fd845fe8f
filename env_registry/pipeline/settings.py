"""What `tgym pipeline` is told: one YAML file, read strictly.

work: pipeline                 folder of tables and sources; relative to the file
sources: [pypi:six, npm:left-pad, debian:hello, git:URL, path:./project]
lists: [projects.txt]          more of them, one a line, `#` begins a comment
dumps: [search.json]           more of them, with their stars: answers of GitHub's search (dumps.py)
context: {NAME: {source, domain, licence, use}}     what instances are written from beside repositories (context.py)
parallel: 2                    items at once in each stage
collect: {…}  score: {…}  build: {…}  generate: {…}  accept: {…}  rate: {…}
                               as below
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from env_registry.pipeline.dumps import read_dump
from terminal_gym.errors import BadSetting, UnknownName
from terminal_gym.tasks.marked_yaml import Block, read_mapping, read_text

LANGUAGES = ("go", "c++", "c", "html", "java", "javascript", "php", "python")  # of the paper's Table 1
LICENCES = ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause")  # those of the paper's release

DOCKERFILES = ("own", "generated", "either")


@dataclass(frozen=True)
class Collect:
    """What is let in."""

    licences: tuple[str, ...] = LICENCES
    """SPDX ids; none: any licence, also one that was not found."""
    languages: tuple[str, ...] = LANGUAGES
    """A repository's main language must be one of them; none: any."""
    size_mb: int = 32
    """Of the archive, and of what is in it; MiB, at most 64."""
    files: int = 5_000
    """Of one repository, at most."""
    timeout_s: float = 120.0
    """For fetching one."""
    near_copy: float = 0.85
    """Jaccard similarity of its shingles with an earlier one, from which on it is a copy; above 1: never."""


@dataclass(frozen=True)
class Score:
    """What is worth a build."""

    model: str = ""
    """A model file or checkpoint folder of `tgym train scorer`, relative to the settings; "": the prior that ships."""
    threshold: float = 0.2
    """A repository's score, the mean over its files, below which it is dropped. Source: TerminalTraj."""
    files: int = 50
    """Files of one repository that are scored, the largest share of them code; more are left out by hash."""


@dataclass(frozen=True)
class Build:
    """How an image is made, and what its build may use."""

    runtime: str = "auto"
    timeout_s: float = 600.0
    memory_mb: int = 2048
    cpus: float = 1.0
    pids: int = 512
    disk_mb: int = 2048
    network: bool = True
    """Whether a build reaches the package registries."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Build system → image to build on, instead of the one that ships for it."""
    dockerfile: str = "own"
    """What builds a repository that has one: own, generated, or either (its own; where that fails, the generated)."""
    images_mb: int = 0
    """What images of repositories may add to the disk; beyond it, the least recently used is dropped until it is
    wanted again. 0: no bound."""
    repair_rounds: int = 0
    """How often a model may rewrite the build script after a failed build."""
    model: str = ""
    """As `--model` has it, e.g. openai/qwen2.5-coder."""
    base_url: str = ""
    prices: Mapping[str, float] = field(default_factory=dict)
    """USD per million tokens: prompt, completion, cached; none: money is not counted."""


@dataclass(frozen=True)
class Generate:
    """How instances are written."""

    per_repository: int = 4
    """Instances of grounded templates from one repository, at most."""
    per_family: int = 10
    """Instances of one family in the whole catalogue, at most; 0: no bound."""
    seed: int = 0
    model: str = ""
    """A model that writes instances as well; "": none."""
    base_url: str = ""
    prices: Mapping[str, float] = field(default_factory=dict)
    """USD per million tokens: prompt, completion, cached; none: money is not counted."""
    asked: int = 1
    """Instances asked of the model for each repository."""
    solutions: bool = True
    """Whether it is asked for reference and partial solution as well; an instance without gets the weaker record."""
    near_copy: float = 0.8
    """Jaccard similarity of instructions from which on the later one is dropped."""
    benchmarks: tuple[str, ...] = ()
    """Manifests or folders of benchmark tasks that no instance may share thirteen words with."""


@dataclass(frozen=True)
class Accept:
    """How an instance is proved."""

    repeats: int = 3
    """Fresh sandboxes for the oracle."""
    failing_repeats: int = 3
    """Fresh sandboxes for each of no-op and partial."""
    attacks: tuple[str, ...] = ()
    """Ids, rows or families of the attacks that are played; none: every generic one."""
    image_mb: int = 4096
    seconds: float = 300.0
    """Of one episode with its judgement, at most."""


@dataclass(frozen=True)
class Context:
    """One item that instances are written from, beside a repository."""

    source: str
    """As a source of repositories; path: and url: may name one text file as well."""
    domain: str
    licence: str = ""
    """SPDX id; "": the one that is found in it."""
    use: str = "files"
    """files: laid into the image, and needed by the task; reference: shown to the model alone."""


@dataclass(frozen=True)
class Rate:
    """Who rates accepted instances (`tgym pipeline rate`)."""

    model: str = ""
    base_url: str = ""
    prices: Mapping[str, float] = field(default_factory=dict)
    """USD per million tokens: prompt, completion, cached; none: money is not counted."""


@dataclass(frozen=True)
class Settings:
    """One pipeline."""

    folder: Path
    work: Path
    sources: tuple[str, ...]
    parallel: int = 1
    stars: Mapping[str, int] = field(default_factory=dict)
    """Source → stars, of those that came from a dump."""
    collect: Collect = field(default_factory=Collect)
    score: Score = field(default_factory=Score)
    build: Build = field(default_factory=Build)
    generate: Generate = field(default_factory=Generate)
    accept: Accept = field(default_factory=Accept)
    rate: Rate = field(default_factory=Rate)
    context: Mapping[str, Context] = field(default_factory=dict)
    """By name, which is also that of its folder in an image."""


Kind = TypeVar("Kind", Collect, Score, Build, Generate, Accept, Rate)
_KEYS = (
    "work",
    "sources",
    "lists",
    "dumps",
    "parallel",
    "collect",
    "score",
    "build",
    "generate",
    "accept",
    "rate",
    "context",
)
_MAY_BE_0 = ("repair_rounds", "images_mb", "per_repository", "per_family", "seed")


def read_settings(path: Path) -> Settings:
    """Return what the file says.

    Raises:
        BadTaskFormat: It cannot be read, or has an unknown key or a value of another type; names the line.
        BadSetting: It names no source, or a value is out of bounds.
    """
    top = read_mapping(path)
    top.refuse_unknown(_KEYS)
    folder = path.absolute().parent
    sources = [*top.texts("sources")]
    for name in top.texts("lists"):
        lines = (line.partition("#")[0].strip() for line in read_text(folder / name).splitlines())
        sources += [line for line in lines if line]
    stars = {key: n for name in top.texts("dumps") for key, n in read_dump(folder / name).items()}
    sources += stars
    if not sources:
        raise BadSetting(f"{path} names no source. Write e.g. sources: [pypi:six].")
    settings = Settings(
        folder,
        folder / top.text("work", "pipeline"),
        tuple(dict.fromkeys(sources)),
        top.whole("parallel", 1),
        stars,
        _part(top, "collect", Collect),
        _part(top, "score", Score),
        _part(top, "build", Build),
        _part(top, "generate", Generate),
        _part(top, "accept", Accept),
        _part(top, "rate", Rate),
        _context(top),
    )
    if not 1 <= settings.collect.size_mb <= 64:
        raise BadSetting(f"{path}: collect.size_mb is {settings.collect.size_mb}; it must be 1 to 64.")
    if settings.build.dockerfile not in DOCKERFILES:
        raise UnknownName("build.dockerfile", settings.build.dockerfile, known=DOCKERFILES)
    return settings


def _part(top: Block, name: str, kind: type[Kind]) -> Kind:
    block = top.block(name)
    if block is None:
        return kind()
    block.refuse_unknown([one.name for one in fields(kind)])
    defaults = kind()
    given = {key: _value(block, key, getattr(defaults, key)) for key in block.values}
    return kind(**given)


def _context(top: Block) -> dict[str, Context]:
    items = top.block("context")
    found: dict[str, Context] = {}
    for name in items.values if items else ():
        block = cast(Block, items).block(name)
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or block is None:
            raise cast(Block, items).wrong(
                name, f"{name!r} is no item", "Write e.g. notes: {source: path:notes.md, …}."
            )
        block.refuse_unknown([one.name for one in fields(Context)])
        use = block.choice("use", ("files", "reference"), "files")
        licence = block.text("licence", "none") if block.values.get("licence") else ""
        found[name] = Context(block.text("source"), block.text("domain"), licence, use)
    return found


def _value(block: Block, key: str, default: Any) -> Any:
    if isinstance(default, bool):
        return block.flag(key, default)
    if isinstance(default, int):
        return 0 if key in _MAY_BE_0 and block.values[key] == 0 else block.whole(key, default)
    if isinstance(default, float):
        return (
            block.seconds(key, default) if key == "threshold" else block.number(key, default)
        )  # the former may be 0
    if isinstance(default, tuple):
        return block.texts(key)
    if isinstance(default, str):
        return block.text(key, default) if block.values[key] != "" else ""
    inner = cast(Block, block.block(key))
    if key == "prices":
        inner.refuse_unknown(("prompt", "completion", "cached"))
        return {name: inner.seconds(name, 0.0) for name in inner.values}  # may be 0
    return {name: inner.text(name) for name in inner.values}
