"""YAML that remembers its lines: every wrong field is reported with file, line and name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from terminal_gym.errors import BadTaskFormat

MAX_BYTES = 1 << 20  # of one YAML file
DEEPEST = 100  # levels of nesting


@dataclass(frozen=True)
class Block:
    """One mapping of a YAML file. Every getter raises BadTaskFormat naming the line where the key stands."""

    path: Path
    values: Mapping[str, object]
    nodes: Mapping[str, yaml.Node]  # key → node of its value
    lines: Mapping[str, int]  # key → line it stands on, from 1
    line: int  # first line of the block
    prefix: str = ""  # dotted name of the block itself

    def wrong(self, key: str, found: str, advice: str) -> BadTaskFormat:
        """Return, not raise, the error about one field."""
        line = self.lines.get(key, self.line)
        return BadTaskFormat(self.path, found, advice, line=line, field=self.prefix + key)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string that is UTF-8 and not blank; a missing key without a default is an error."""
        if key not in self.values:
            if default is None:
                raise self.wrong(key, f"{key!r} is missing", "Add it.")
            return default
        value = self.values[key]
        if not isinstance(value, str):
            raise self.wrong(key, f"{key!r} is {_kind(value)}, not a string", "Put it in quotes.")
        if not value.strip():
            raise self.wrong(key, f"{key!r} is empty", "Write it, or leave the key out if it may be missing.")
        return _utf8(self.path, value, self.lines.get(key, self.line), self.prefix + key)

    def choice(self, key: str, known: Collection[str], default: str) -> str:
        """Return one of `known`."""
        value = self.text(key, default)
        if value not in known:
            raise self.wrong(key, f"{value!r} is none of {', '.join(known)}", nearest(value, known))
        return value

    def number(self, key: str, default: float) -> float:
        """Return a finite number > 0."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"{key!r} is {_kind(value)}, not a number", "Write a number, unquoted.")
        if not (0 < value < 1e15 and math.isfinite(value)):
            raise self.wrong(key, f"{key!r} is {value}", "It must be finite and greater than 0.")
        return float(value)

    def seconds(self, key: str, default: float) -> float:
        """Return a finite number ≥ 0."""
        zero = self.values.get(key, default)
        return 0.0 if type(zero) in (int, float) and zero == 0 else self.number(key, default)

    def whole(self, key: str, default: int) -> int:
        """Return a whole number ≥ 1."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, f"{key!r} is {_kind(value)}, not a whole number", "Write digits, unquoted.")
        if not 1 <= value < 10**15:
            raise self.wrong(key, f"{key!r} is {value}", "It must be at least 1.")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, f"{key!r} is {_kind(value)}, not true or false", "Write true or false.")
        return value

    def texts(self, key: str, *, twice: bool = False) -> tuple[str, ...]:
        """Return a list of strings, none blank, each once unless `twice`; () where the key is missing."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
            raise self.wrong(key, f"{key!r} is not a list of strings", "Write [one, two].")
        doubles = [v for v in value if value.count(v) > 1]
        if doubles and not twice:
            raise self.wrong(key, f"{doubles[0]!r} stands in {key!r} twice", "Remove one.")
        line, field = self.lines.get(key, self.line), self.prefix + key
        return tuple(_utf8(self.path, v, line, field) for v in value)

    def block(self, key: str) -> Block | None:
        """Return the mapping below `key`, None where the key is missing."""
        if key not in self.values:
            return None
        value, node = self.values[key], self.nodes.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, f"{key!r} is {_kind(value)}, not a mapping", "Indent its keys below it.")
        if node is None or not isinstance(
            node.value, list
        ):  # merged in from an anchor: its lines are elsewhere
            plain = {str(name): cell for name, cell in value.items()}
            return Block(self.path, plain, {}, {}, self.lines.get(key, self.line), f"{self.prefix}{key}.")
        return _block(self.path, value, node, f"{self.prefix}{key}.")

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise for a key that is not in `known`, naming the nearest one."""
        for key in self.values:
            if key not in known:
                raise self.wrong(key, f"unknown key {key!r}", nearest(key, known))


def nearest(name: str, known: Collection[str]) -> str:
    """Return advice that names the nearest known words."""
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(sorted(known))}."


def read_text(path: Path) -> str:
    """Return a small UTF-8 file's text."""
    try:
        size, body = path.stat().st_size, path.read_bytes()
        if size > MAX_BYTES:
            raise BadTaskFormat(path, f"{size} bytes", f"At most {MAX_BYTES} are read.")
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise BadTaskFormat(path, f"not UTF-8: {error.reason}", "Save it as UTF-8.", line=line) from error
    except OSError as error:
        raise BadTaskFormat(path, f"cannot be read: {error.strerror}", "See that it is a file.") from error


def read_mapping(path: Path) -> Block:
    """Return the mapping that the file holds."""
    value, node = _read(path)
    if not isinstance(value, dict):
        raise BadTaskFormat(path, f"holds {_kind(value)}, not a mapping", "Write `key: value` lines.", line=1)
    return _block(path, value, node, "")


def read_mappings(path: Path) -> tuple[Block, ...]:
    """Return the list of mappings that the file holds."""
    entries = read_entries(path)
    for index, entry in enumerate(entries):
        if isinstance(entry, str):
            raise BadTaskFormat(path, f"entry {index} is a string", "Write a mapping.", field=f"[{index}]")
    return tuple(entry for entry in entries if isinstance(entry, Block))


def read_entries(path: Path) -> tuple[Block | str, ...]:
    """Return the list of mappings and strings that the file holds."""
    value, node = _read(path)
    if not isinstance(value, list) or not isinstance(node, yaml.SequenceNode):
        raise BadTaskFormat(path, f"holds {_kind(value)}, not a list", "Start each entry with `- `.", line=1)
    entries = zip(value, node.value, strict=True)
    return tuple(_entry(path, entry, child, index) for index, (entry, child) in enumerate(entries))


def _entry(path: Path, value: object, node: yaml.Node, index: int) -> Block | str:
    if isinstance(value, dict):
        return _block(path, value, node, f"[{index}].")
    line, field = node.start_mark.line + 1, f"[{index}]"
    if not isinstance(value, str):
        raise BadTaskFormat(
            path, f"is {_kind(value)}", "Write a mapping or a string.", line=line, field=field
        )
    return _utf8(path, value, line, field)


class _Loader(yaml.SafeLoader):
    """Gives up at once on what is nested too deep: its scanner takes quadratic time on it."""

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"nested more than {DEEPEST} deep", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _read(path: Path) -> tuple[object, yaml.Node]:
    text = read_text(path)
    loader = _Loader("")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise BadTaskFormat(path, "is empty", "Write the task.", line=1)
        _refuse_doubles(path, node, set())
        return loader.construct_document(node), node
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadTaskFormat(
            path, f"not YAML: {what}", "Mend the syntax there.", line=mark.line + 1 if mark else None
        ) from error
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        if isinstance(error, BadTaskFormat):
            raise
        raise BadTaskFormat(path, f"not plain YAML: {error}", "Quote the value, or nest less.") from error
    finally:
        loader.dispose()


def _refuse_doubles(path: Path, node: yaml.Node, seen: set[int]) -> None:
    """Raise for a key written twice in one mapping: YAML readers would silently keep one of them."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_doubles(path, child, seen)
        return
    keys: set[str] = set()
    for key, child in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in keys:
                line = key.start_mark.line + 1
                raise BadTaskFormat(path, "key written twice", "Remove one.", line=line, field=key.value)
            keys.add(key.value)
        _refuse_doubles(path, child, seen)


def _block(path: Path, value: Mapping[object, object], node: yaml.Node, prefix: str) -> Block:
    pairs = {str(key.value): (key, child) for key, child in node.value}
    return Block(
        path=path,
        values={str(key): item for key, item in value.items()},
        nodes={name: child for name, (_, child) in pairs.items()},
        lines={name: key.start_mark.line + 1 for name, (key, _) in pairs.items()},
        line=node.start_mark.line + 1,
        prefix=prefix,
    )


def _kind(value: object) -> str:
    names = {type(None): "empty", bool: "true or false", int: "a number", float: "a number"}
    names |= {str: "a string", list: "a list", dict: "a mapping"}
    return names.get(type(value), f"a {type(value).__name__}")


def _utf8(path: Path, value: str, line: int, field: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        found = "holds half a surrogate pair"
        raise BadTaskFormat(path, found, "Write the character itself.", line=line, field=field) from error
    return value
