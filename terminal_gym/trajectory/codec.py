"""Records ↔ JSON objects, by their types: a field at its default is left out, an unknown field is refused.

Bytes become text of one character per byte (ISO 8859-1), which is exact, readable, and compresses well. A float
that JSON has no number for becomes the text "nan", "inf" or "-inf". Frames are `[seconds, direction, bytes]`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

from terminal_gym.errors import SchemaMismatch
from terminal_gym.trajectory.record import Frame

T = TypeVar("T")
_Convert = Callable[[Any], Any]


def to_object(record: Any) -> dict[str, object]:
    """Return the record as JSON values."""
    return cast(dict[str, object], _writer(cast(Hashable, type(record)))(record))


def from_object(kind: type[T], value: object) -> T:
    """Return the record that `to_object` gave.

    Raises:
        SchemaMismatch: A field is missing, unknown, or of another type; names it.
    """
    try:
        return cast(T, _reader(cast(Hashable, kind))(value))
    except SchemaMismatch:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise SchemaMismatch(f"This is no {kind.__name__} of this version: {error!r}") from error


def to_json(record: Any) -> bytes:
    """Return one line of JSON, ASCII, without the newline."""
    return json.dumps(to_object(record), ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def from_json(kind: type[T], line: bytes) -> T:
    """Return the record in a line; raises as `from_object` does."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SchemaMismatch(f"Not JSON: {error}") from error
    return from_object(kind, value)


@functools.cache
def _writer(kind: Any) -> _Convert:
    if kind is Frame:
        return lambda frame: [frame.at_s, frame.direction, frame.data.decode("latin-1")]
    if dataclasses.is_dataclass(kind):
        return _record_writer(kind)
    if kind is bytes:
        return lambda value: value.decode("latin-1")
    if kind is float:
        return lambda value: value if math.isfinite(value) else str(value)
    inner = _inner(kind)
    if inner is None:
        return lambda value: value
    write = _writer(inner[0])
    if inner[1] is dict:
        return lambda value: {key: write(cell) for key, cell in value.items()}
    if inner[1] is tuple:
        if inner[0] in (int, str):
            return list
        return lambda value: [write(cell) for cell in value]
    return lambda value: None if value is None else write(value)


def _record_writer(kind: Any) -> _Convert:
    hints = typing.get_type_hints(kind)
    fields = [(field.name, _default(field), _writer(hints[field.name])) for field in dataclasses.fields(kind)]

    def write(record: Any) -> dict[str, object]:
        values = ((name, default, convert, getattr(record, name)) for name, default, convert in fields)
        return {name: convert(value) for name, default, convert, value in values if value != default}

    return write


@functools.cache
def _reader(kind: Any) -> _Convert:
    if kind is Frame:
        return lambda cells: Frame(_number(cells[0]), cells[1], cells[2].encode("latin-1"))
    if dataclasses.is_dataclass(kind):
        return _record_reader(kind)
    if kind is bytes:
        return lambda value: value.encode("latin-1")
    if kind is float:
        return _number
    if kind in (int, str, bool):
        return functools.partial(_plain, kind)
    if typing.get_origin(kind) is typing.Literal:
        return functools.partial(_one_of, typing.get_args(kind))
    inner = _inner(kind)
    if inner is None:
        raise TypeError(f"records hold no {kind}")
    read, shape = _reader(inner[0]), inner[1]
    if shape is dict:
        return lambda value: {key: read(cell) for key, cell in value.items()}
    if shape is tuple:
        return lambda value: tuple(map(read, _list(value)))
    return lambda value: None if value is None else read(value)


def _record_reader(kind: Any) -> _Convert:
    hints = typing.get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise SchemaMismatch(f"{kind.__name__} is {value!r:.80}, not an object")
        if unknown := sorted(value.keys() - readers.keys()):
            advice = "It was written by a newer version, or edited."
            raise SchemaMismatch(f"{kind.__name__} has the unknown field {unknown[0]!r}. {advice}")
        return kind(**{name: readers[name](cell) for name, cell in value.items()})

    return read


def _inner(kind: Any) -> tuple[Any, type] | None:
    """(type of the parts, dict | tuple | None's type), None for a type without parts."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return args[0], tuple
    if origin in (dict, Mapping):
        return args[1], dict
    if origin in (typing.Union, types.UnionType):
        (part,) = (arg for arg in args if arg is not type(None))
        return part, type(None)
    return None


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default  # MISSING equals nothing


def _plain(kind: type, value: object) -> object:
    if type(value) is not kind:
        raise SchemaMismatch(f"{value!r:.80} is no {kind.__name__}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SchemaMismatch(f"{value!r:.80} is no number")
    return float(value)


def _one_of(choices: tuple[object, ...], value: object) -> object:
    if value not in choices:
        raise SchemaMismatch(f"{value!r:.80} is none of {', '.join(map(repr, choices))}")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise SchemaMismatch(f"{value!r:.80} is no list")
    return value
