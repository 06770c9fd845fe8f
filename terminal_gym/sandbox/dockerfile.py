"""A Dockerfile, read: its instructions, what stands in them, and what COPY and ADD send.

Who carries them out is another matter: recipe.py does so in namespaces, a layer an instruction; the pipeline in a
sandbox. Source: Dockerfile reference, "parser" format 1.
"""

from __future__ import annotations

import io
import json
import posixpath
import re
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from terminal_gym.errors import BuildFailed

# Instructions that change no file: how a container is started, or what is said of it.
WITHOUT_FILES = (
    "LABEL",
    "CMD",
    "ENTRYPOINT",
    "EXPOSE",
    "SHELL",
    "VOLUME",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "MAINTAINER",
)
_VARIABLE = re.compile(r"\\(.)|\$(?:\{(\w+)(?:(:?[-+])([^}]*))?\}|(\w+))")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile."""

    line: int
    name: str  # upper case
    text: str


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


def parse(file: Path) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile, continued lines joined, comments left out.

    Raises:
        BuildFailed: It cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BuildFailed(f"{file} cannot be read: {error}") from error
    joined, began = "", 0
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#") or (joined and not line.strip()):
            continue
        began = began if joined else number
        if line.rstrip().endswith("\\"):
            joined += line.rstrip()[:-1]
            continue
        whole, joined = (joined + line).strip(), ""
        if whole:
            name, _, text = whole.partition(" ")
            yield Instruction(began, name.upper(), text.strip())
    if joined.strip():
        name, _, text = joined.strip().partition(" ")
        yield Instruction(began, name.upper(), text.strip())


def substitute(text: str, variables: dict[str, str]) -> str:
    """Return `text` with $NAME, ${NAME}, ${NAME:-word} and ${NAME:+word} replaced; `\\$` stays a dollar."""

    def one(found: re.Match[str]) -> str:
        escaped, name, operator, word, bare = found.groups()
        if escaped is not None:
            return "$" if escaped == "$" else found[0]
        value = variables.get(name or bare)
        is_set = bool(value) if operator and operator[0] == ":" else value is not None
        if operator and operator[-1] == "-":
            return str(value) if is_set else str(word)
        if operator:
            return str(word) if is_set else ""
        return value or ""

    return _VARIABLE.sub(one, text)


def base_of(text: str, file: Path, at: Instruction) -> tuple[str, str]:
    words = [word for word in text.split() if not word.startswith("--")]
    if len(words) == 3 and words[1].upper() == "AS":
        return words[0], words[2].lower()
    if len(words) != 1:
        raise BuildFailed(f"{file}:{at.line}: FROM {text} cannot be read.")
    return words[0], ""


def argument(text: str, variables: dict[str, str]) -> dict[str, str]:
    name, given, default = text.partition("=")
    return {name.strip(): _unquoted(substitute(default, variables))} if given else {}


def pairs(text: str) -> dict[str, str]:
    if "=" not in text.split(" ", 1)[0]:
        name, _, value = text.partition(" ")
        return {name: value.strip()}
    return dict(word.partition("=")[::2] for word in shlex.split(text))


def _unquoted(text: str) -> str:
    return " ".join(shlex.split(text))


def exec_form(text: str) -> list[str] | None:
    if text.startswith("["):
        try:
            words = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
            return words
    return None


def options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    return options, [word for word in words if not word.startswith("--")]


# ── copying ─────────────────────────────────────────────────────────────────────────────────────


def packed(
    source: Path,
    patterns: list[str],
    target: str,
    *,
    is_folder: bool,
    names: set[str] | None,
    unpacks: bool = False,
) -> tuple[bytes, str]:
    """Return (tar of what the patterns name, folder to unpack it in).

    A folder's content is copied, not itself; so is an archive's where `unpacks`, into the folder `target`.
    """
    made = io.BytesIO()
    folder, rename = (target.rstrip("/") or "/", "") if is_folder else ("/", "")
    with tarfile.open(fileobj=made, mode="w") as tar:
        for pattern in patterns:
            clean = posixpath.normpath(f"/{pattern}").lstrip("/")  # `..` ends at the top, as Docker has it
            found = sorted(source.glob(clean)) if clean else [source]
            if not found:
                raise FileNotFoundError(pattern)
            for path in found:
                inside = path.is_dir() and not path.is_symlink()
                if unpacks and not inside and not path.is_symlink() and tarfile.is_tarfile(path):
                    folder, rename = target.rstrip("/") or "/", ""
                    _unpack(path, tar)
                    continue
                if not inside and not is_folder:
                    folder, _, rename = target.rstrip("/").rpartition("/")
                    folder = folder or "/"
                elif not is_folder:
                    folder = target.rstrip("/") or "/"
                start = path if inside else path.parent
                for each in [path] if not inside else sorted(path.rglob("*")):
                    if names is None or each.relative_to(source).as_posix() in names:
                        tar.add(
                            each, rename or each.relative_to(start).as_posix(), recursive=False, filter=_plain
                        )
    return made.getvalue(), folder


def _unpack(path: Path, into: tarfile.TarFile) -> None:
    """Add what an archive holds, compressed or not, as ADD does."""
    with tarfile.open(path) as archive:
        for entry in archive:
            into.addfile(entry, archive.extractfile(entry) if entry.isreg() else None)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    if entry.islnk():
        entry.type = tarfile.REGTYPE
    return entry


def with_mode(archive: bytes, mode: str) -> bytes:
    if not mode:
        return archive
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as given, tarfile.open(fileobj=made, mode="w") as tar:
        for entry in given:
            entry.mode = int(mode, 8)
            tar.addfile(entry, given.extractfile(entry) if entry.isfile() else None)
    return made.getvalue()
