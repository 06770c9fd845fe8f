"""What can be said of a repository without running it: its files and its language, told by `identify` from names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from identify import identify

_ALIASES = {"c": "c", "c++": "c++", "go": "go", "html": "html", "java": "java", "javascript": "javascript"}
_ALIASES |= {"php": "php", "python": "python", "ts": "javascript", "jsx": "javascript", "tsx": "javascript"}
_READ = 1 << 20  # bytes of one file


@dataclass(frozen=True)
class TextFile:
    """A readable file of a repository."""

    path: str  # relative, `/` between
    text: str
    tags: frozenset[str]  # as `identify` has them
    encoding: str

    @property
    def language(self) -> str:
        """One of the eight languages, "" where it is none of them."""
        found = sorted(_ALIASES[tag] for tag in self.tags if tag in _ALIASES)
        return "c" if found == ["c", "c++"] else found[0] if found else ""


def text_files(folder: Path) -> Iterator[TextFile]:
    """Yield the text files below `folder` in order; binary ones, links and megabytes are left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or ".git" in path.relative_to(folder).parts:
            continue
        body = path.read_bytes()
        if not body or len(body) > _READ or b"\0" in body[:8192]:
            continue
        text, encoding = decoded(body)
        name = (
            path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        )
        yield TextFile(name, text, frozenset(identify.tags_from_filename(path.name)), encoding)


def decoded(body: bytes) -> tuple[str, str]:
    """(text, encoding) of a file: UTF-8, with or without a mark, UTF-16 with one, else Latin-1, which fits anything."""
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    for encoding in (*(name for mark, name in marks.items() if body.startswith(mark)), "utf-8"):
        try:
            return body.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return body.decode("latin-1"), "latin-1"


def main_language(files: list[TextFile]) -> str:
    """Return the language with the most characters; HTML only where no other language has any."""
    count = Counter[str]()
    for file in files:
        if file.language:
            count[file.language] += len(file.text)
    coded = {language: size for language, size in count.items() if language != "html"}
    return max(coded or count, key=lambda one: (count[one], one), default="")
