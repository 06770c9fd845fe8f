"""What licence a repository is under: the texts of its licence files, else what its metadata declares.

The texts are those of choosealicense.com, as `identify` brings them. A licence is found where a file holds nearly all
of its wording, whatever else stands there: a title or none, other holders, a second licence, a preface.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from identify.vendor.licenses import LICENSES

_FILE = re.compile(r"(?i)^(.+[-.])?(li[cs]en[cs]es?|copying|copyright|unlicen[cs]e)([-._].*)?$")
_DECLARED = (
    ("package.json", re.compile(r'"license"\s*:\s*"([^"]+)"')),
    ("PKG-INFO", re.compile(r"^License(?:-Expression)?:[ \t]*(\S.*)$", re.M)),
    ("PKG-INFO", re.compile(r"^Classifier: License :: (?:OSI Approved :: )?(.+)$", re.M)),
    ("pyproject.toml", re.compile(r'^license\s*=\s*(?:\{\s*text\s*=\s*)?"([^"]+)"', re.M)),
    ("composer.json", re.compile(r'"license"\s*:\s*"([^"]+)"')),
)
_SAID = {
    "mit": "MIT", "mit license": "MIT", "the mit license": "MIT", "the mit license (mit)": "MIT", "expat": "MIT",
    "apache 2.0": "Apache-2.0", "apache-2.0": "Apache-2.0", "apache2": "Apache-2.0", "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0", "bsd-3-clause": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause", "modified bsd license": "BSD-3-Clause", "bsd-2-clause": "BSD-2-Clause",
    "bsd 2-clause license": "BSD-2-Clause", "simplified bsd": "BSD-2-Clause", "isc": "ISC",
    "isc license (iscl)": "ISC",
}  # fmt: skip
# Of a licence's runs of words, what a file must hold. ISC's text holds 0.97 of 0BSD's: the nearest counts first.
_SHARE = 0.85
_RUN = 4  # words
_READ = 1 << 18  # bytes of one file
_HOLDER = re.compile(
    r"(?im)^[^a-z\n]*(portions )?copyright\b.*$|^[^a-z\n]*all rights reserved\.?[^a-z\n]*$|\[[a-z ]+\]"
)
Runs = frozenset[tuple[str, ...]]


def licence_of(folder: Path) -> tuple[str, str]:
    """(SPDX id, where it stands), ("", "") where none is found; of a file with several, they are joined by ` AND `.

    A licence's text counts before what package metadata says of it.
    """
    for path in sorted(folder.iterdir()):
        is_one = path.is_file() and not path.is_symlink() and _FILE.match(path.name)
        if is_one and (found := licences_in(_text(path))):
            return " AND ".join(found), path.name
    for name, pattern in _DECLARED:
        path = folder / name
        if path.is_file() and not path.is_symlink() and (said := pattern.search(_text(path))):
            return _SAID.get(said[1].strip().lower(), said[1].strip()), name
    return "", ""


def is_allowed(licence: str, allowed: tuple[str, ...]) -> bool:
    """Whether every licence of `A AND B`, or one of `A OR B`, is allowed."""
    plain = licence.replace("(", " ").replace(")", " ")
    if " OR " in plain:
        return " AND " not in plain and any(one.strip() in allowed for one in plain.split(" OR "))
    return all(one.strip() in allowed for one in plain.split(" AND "))


def licences_in(text: str) -> list[str]:
    """Return the SPDX ids of the licences whose wording a text holds, sorted."""
    left, found = _runs(text), list[str]()
    for name in _nearest(left):
        wording = _known()[name]
        if len(wording & left) >= _SHARE * len(wording):
            found.append(name)
            left -= wording
    return sorted(found)


def _nearest(runs: Runs) -> Iterator[str]:
    """Licences by how much of their wording is there: of two that are wholly there, the longer comes first."""
    share = {name: len(wording & runs) / len(wording) for name, wording in _known().items()}
    close = [name for name in share if share[name] >= _SHARE]
    yield from sorted(close, key=lambda name: (-round(share[name], 2), -len(_known()[name])))


@functools.cache
def _known() -> dict[str, Runs]:
    return {name: _runs(text) for name, text in LICENSES}


def _runs(text: str) -> Runs:
    """Every run of words, without what names a holder, a year or a place to fill in."""
    words = re.findall(r"[a-z]+", _HOLDER.sub(" ", text).lower())
    return frozenset(tuple(words[at : at + _RUN]) for at in range(max(1, len(words) - _RUN + 1)))


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(_READ).decode("utf-8", "replace")
