"""TOML that remembers its lines: every wrong field is reported with file, line and name, as in `marked_yaml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from terminal_gym.errors import BadTaskFormat
from terminal_gym.tasks.marked_yaml import Block, read_text

_TABLE = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"))*)\s*=""")


@dataclass(frozen=True)
class TomlBlock(Block):
    """One table."""

    places: Mapping[str, int] = field(default_factory=dict)  # dotted name → line, of the whole file

    def block(self, key: str) -> TomlBlock | None:
        """Return the table below `key`, None where the key is missing."""
        if key not in self.values:
            return None
        value = self.values[key]
        if not isinstance(value, dict):
            raise self.wrong(key, f"{key!r} is not a table", f"Write [{self.prefix}{key}].")
        return _block(self.path, value, self.places, f"{self.prefix}{key}.")

    def tables(self, key: str) -> tuple[TomlBlock, ...]:
        """Return the list of tables below `key`, () where the key is missing."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(cell, dict) for cell in value):
            raise self.wrong(key, f"{key!r} is not a list of tables", f"Write [[{self.prefix}{key}]].")
        return tuple(
            _block(self.path, cell, self.places, f"{self.prefix}{key}[{index}].")
            for index, cell in enumerate(value)
        )

    def strings(self, key: str) -> dict[str, str]:
        """Return a table of strings; numbers and booleans in it become text."""
        table = self.block(key)
        if table is None:
            return {}
        found = {}
        for name, value in table.values.items():
            if not isinstance(value, str | int | float | bool):
                raise table.wrong(name, f"{name!r} is not a string", "Put it in quotes.")
            found[name] = value if isinstance(value, str) else str(value).lower()
        return found


def read_toml(path: Path) -> TomlBlock:
    """Return the table that the file holds.

    Raises:
        BadTaskFormat: It cannot be read, or is not TOML.
    """
    text = read_text(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else None
        raise BadTaskFormat(path, f"not TOML: {error}", "Mend the syntax there.", line=line) from error
    except RecursionError as error:
        raise BadTaskFormat(path, "nested too deep", "Nest less.") from error
    return _block(path, values, _places(text), "")


def _block(path: Path, values: Mapping[str, object], places: Mapping[str, int], prefix: str) -> TomlBlock:
    lines = {key: places[prefix + key] for key in values if prefix + key in places}
    line = places.get(prefix.rstrip("."), min(lines.values(), default=1))
    return TomlBlock(path, values, {}, lines, line, prefix, places)


def _places(text: str) -> dict[str, int]:
    """Dotted name → line on which it is written; a guess inside of multi-line strings, and only shown to people."""
    places: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if table := _TABLE.match(line):
            name = re.sub(r"\s*\.\s*|[\"']", lambda found: "." if "." in found[0] else "", table[2])
            head = name.split(".", 1)
            if table[1] == "[[":
                parent, _, last = name.rpartition(".")
                name = f"{_indexed(parent, counts)}.{last}" if parent else last
                counts[name] = counts.get(name, -1) + 1
                name = f"{name}[{counts[name]}]"
            elif head[0] in counts:
                name = _indexed(name, counts)
            prefix = f"{name}."
            for end in range(len(name) + 1):
                if end == len(name) or name[end] == ".":
                    places.setdefault(name[:end], number)
        elif key := _KEY.match(line):
            name = prefix + re.sub(r"\s*\.\s*|[\"']", lambda found: "." if "." in found[0] else "", key[1])
            places.setdefault(name, number)
            places.setdefault(name.split(".", 1)[0] if not prefix else name, number)
    return places


def _indexed(name: str, counts: Mapping[str, int]) -> str:
    """The name with the index of the array table that was opened last."""
    head, dot, rest = name.partition(".")
    return f"{head}[{counts[head]}]{dot}{rest}" if head in counts else name
