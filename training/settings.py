"""YAML → frozen settings: unknown keys are refused with the nearest known ones, values by their type.

And what must hold before anything expensive begins: library versions, accelerators, contexts.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import types
import typing
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from terminal_gym.errors import BadSetting, UnknownName

T = TypeVar("T")
NEEDS = {  # tested with these; a later major version moves the hooks that we use
    "torch": ">=2.6,<3",
    "transformers": ">=5.15,<6",
    "trl": ">=1.16,<2",
    "peft": ">=0.21,<1",
    "accelerate": ">=1.15,<2",
    "datasets": ">=5.2,<6",
}


@dataclass(frozen=True)
class Model:
    """What is trained."""

    name: str
    """Name on the model hub, or a folder."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the weights; float32 for full fine-tuning (the optimizer's steps are lost in bfloat16)."""
    attention: str = "sdpa"
    """As transformers names it, e.g. flash_attention_2."""
    template: str = "auto"
    """Of the chat; see `chat_format.matching`."""


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter on all linear layers but the head."""

    rank: int = 64
    alpha: int = 128
    dropout: float = 0.0
    targets: str = "all-linear"
    """Layers, as peft names them."""

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0.0 <= self.dropout < 1.0:
            raise BadSetting(
                f"lora.rank is {self.rank} and lora.dropout {self.dropout}; they must be 1 or more, and 0 or more "
                "and below 1."
            )


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


def read_config(kind: type[T], path: Path | None, overrides: Mapping[str, Any] | None = None) -> T:
    """Return the settings in a YAML file, with overrides by dotted key.

    Raises:
        BadSetting: The file cannot be read; a key is missing; a value is of another type.
        UnknownName: A key is not known; names the nearest.
    """
    cells: Any = {}
    if path is not None:
        try:
            cells = yaml.safe_load(path.read_text("utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadSetting(f"{path} cannot be read: {error}") from error
        if not isinstance(cells, dict):
            raise BadSetting(f"{path} is no mapping of settings but {type(cells).__name__}.")
    for key, value in (overrides or {}).items():
        _put(cells, key.split("."), value, key)
    return from_cells(kind, cells, where=str(path or "the command line"))


def _put(cells: dict[str, Any], keys: Sequence[str], value: Any, whole: str) -> None:
    first, *rest = keys
    if not rest:
        cells[first] = value
        return
    inner = cells.setdefault(first, {})
    if not isinstance(inner, dict):
        raise BadSetting(f"{whole} is set, but {first} is {inner!r} and not a mapping.")
    _put(inner, rest, value, whole)


def from_cells(kind: type[T], cells: Mapping[str, Any], *, where: str, path: str = "") -> T:
    """Return settings made of plain values; raises as `read_config` does."""
    known = {field.name: field for field in fields(typing.cast(Any, kind))}
    check_keys(cells, known, where=where, path=path)
    hints = typing.get_type_hints(kind)
    given = {key: _value(hints[key], value, where=where, path=f"{path}{key}") for key, value in cells.items()}
    missing = [
        name
        for name, field in known.items()
        if name not in given and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise BadSetting(f"{where}: {path}{missing[0]} is missing.")
    return kind(**given)


def check_keys(cells: Mapping[str, Any], known: Iterable[str], *, where: str, path: str = "") -> None:
    """Raise UnknownName at the first key that is not known."""
    names = list(known)
    for key in cells:
        if key not in names:
            what = f"setting below {path[:-1]!r}" if path else "setting"
            raise UnknownName(what, str(key), known=names, advice=f"Look into {where}.")


def _value(kind: Any, value: Any, *, where: str, path: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _value(next(one for one in inner if one is not type(None)), value, where=where, path=path)
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise _wrong(where, path, value, "a mapping")
        return from_cells(kind, value, where=where, path=f"{path}.")
    if origin is Literal:
        if value not in inner:
            raise _wrong(where, path, value, f"one of {', '.join(map(repr, inner))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(where, path, value, "a list")
        return tuple(_value(inner[0], one, where=where, path=path) for one in value)
    if kind is float and not isinstance(value, bool):
        return as_float(value, where=where, path=path)
    plain = {int: int, str: str, bool: bool}.get(kind)
    if plain is not None and (not isinstance(value, plain) or (kind is int and isinstance(value, bool))):
        raise _wrong(where, path, value, {int: "a whole number", str: "text", bool: "true or false"}[kind])
    if isinstance(value, str) and value.startswith("~/"):  # no shell has seen it
        return str(Path(value).expanduser())
    if origin is not None and issubclass(origin, Mapping) and not isinstance(value, Mapping):
        raise _wrong(where, path, value, "a mapping")
    return value


def as_float(value: Any, *, where: str, path: str) -> float:
    """Return a number; YAML reads 1e-4, without a point, as text."""
    try:
        if isinstance(value, int | float | str):
            return float(value)
    except ValueError:
        pass
    raise _wrong(where, path, value, "a number")


def _wrong(where: str, path: str, value: Any, wanted: str) -> BadSetting:
    return BadSetting(f"{where}: {path} is {value!r}; it must be {wanted}.")


def plain(settings: Any) -> dict[str, Any]:
    """Return settings as YAML and JSON have them."""
    return dataclasses.asdict(settings)


def trainer_arguments(kind: Any, given: Mapping[str, Any], ours: Mapping[str, Any], *, where: str) -> Any:
    """Return a configuration of the trainer's own, `given` by the user and `ours`.

    Raises:
        UnknownName: It has no such field.
        BadSetting: A field that ours sets is given too; or it does not accept a value.
    """
    check_keys(given, [field.name for field in fields(kind)], where=where, path="trainer.")
    for key in given:
        if key in ours:
            raise BadSetting(f"trainer.{key} is set by other settings here; remove it from {where}.")
    hints = typing.get_type_hints(kind)
    read = {
        key: _trainer_value(hints[key], value, where=where, path=f"trainer.{key}")
        for key, value in given.items()
    }
    try:
        with warnings.catch_warnings():
            # TRL sets the old name of this field by itself.
            warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
            made = kind(**{**read, **ours})
    except (TypeError, ValueError, ImportError) as error:
        raise BadSetting(f"{where}: the trainer does not accept this: {error}") from error
    _check_sizes(made, where)
    _check_reports(made, where)
    return made


_PLAIN = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"
}  # fmt: skip


def _trainer_value(kind: Any, value: Any, *, where: str, path: str) -> Any:
    """Return a value as a field of the trainer's takes it; the trainer itself would not look at its type."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if value is False and path.endswith("_strategy"):
        return "no"  # which YAML reads as false
    if not set(kinds) <= set(_PLAIN) or type(value) in kinds:
        return value
    if float in kinds and not isinstance(value, bool):
        return value if isinstance(value, int) else as_float(value, where=where, path=path)
    raise _wrong(where, path, value, " or ".join(_PLAIN[one] for one in kinds))


def _check_sizes(made: Any, where: str) -> None:
    for key in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        if getattr(made, key) < 1:
            raise _wrong(where, f"trainer.{key}", getattr(made, key), "1 or more")


def _check_reports(made: Any, where: str) -> None:
    from transformers.integrations import get_available_reporting_integrations

    if missing := set(made.report_to) - set(get_available_reporting_integrations()):
        name = sorted(missing)[0]
        advice = "Install its package, or write none."
        raise BadSetting(f"{where}: trainer.report_to names {name!r}, which is not here. {advice}")


# ── before anything begins ──────────────────────────────────────────────────────────────────────


def check_versions(needs: Mapping[str, str] = NEEDS) -> None:
    """Raise BadSetting where a library is missing, or of a version that this was not made for."""
    for name, wanted in needs.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            how = "-e '.[train]', in a checkout" if name in NEEDS else f"'{name}{wanted}'"
            advice = f"pip install {how}."
            raise BadSetting(f"The package {name} is missing. {advice}") from None
        from packaging.specifiers import SpecifierSet

        if not SpecifierSet(wanted).contains(found, prereleases=True):
            raise BadSetting(f"{name} is {found}, but {wanted} is needed. pip install '{name}{wanted}'.")


def check_device(*, needs_gpu: bool, where: str) -> bool:
    """Return whether there is a GPU.

    Raises:
        BadSetting: There is none, and it is needed.
    """
    import torch

    has_gpu = bool(torch.cuda.is_available())
    if needs_gpu and not has_gpu:
        advice = (
            "Run it on a machine with one, or set needs_gpu=false for a model that a processor can train."
        )
        raise BadSetting(f"{where} needs a GPU, and torch {torch.__version__} sees none here. {advice}")
    return has_gpu


def check_attention(name: str) -> None:
    """Raise UsageError where transformers knows no such attention, or its package is not here."""
    if name.startswith("flash_attention") and importlib.util.find_spec("flash_attn") is None:
        advice = "Install flash-attn, or set model.attention to sdpa (and packing to false at long contexts)."
        raise BadSetting(f"model.attention is {name}, and the package flash_attn is missing. {advice}")
    from transformers import AttentionInterface

    known = ["eager", *AttentionInterface().valid_keys()]
    if name not in known and "/" not in name:  # with one, it is a kernel of the hub
        raise UnknownName("model.attention", name, known=known)


def check_context(name: str, context_tokens: int) -> Any:
    """Return the configuration of a model.

    Raises:
        BadSetting: It cannot be loaded, or its context is shorter.
    """
    from transformers import AutoConfig

    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise BadSetting(f"There is no folder {name}. Name a checkpoint, or a model of the hub.")
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise BadSetting(f"The model {name} cannot be loaded: {str(error)[:400]}") from error
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and context_tokens > longest:
        raise BadSetting(
            f"context_tokens is {context_tokens}, but {name} was made for {longest}. Lower it, or name another model."
        )
    return config
