"""What models cost: calls, tokens and money, of one item or of a whole table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from terminal_gym.trajectory.dialogue import Usage


@dataclass(frozen=True)
class Spent:
    """What some calls used. A row of a stage's table keeps it as `spent`, where a model was asked."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0  # None: the price of some call is not known

    @classmethod
    def of(cls, usage: Usage) -> Self:
        """Return what one call used."""
        return cls(1, usage.prompt_tokens, usage.completion_tokens, usage.cost_usd)

    @classmethod
    def in_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Return what the rows with these cells used together."""
        return sum((cls(**cells["spent"]) for cells in rows if "spent" in cells), cls())

    def __add__(self, other: Self) -> Self:
        known = self.cost_usd is not None and other.cost_usd is not None
        return type(self)(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )

    def cells(self) -> dict[str, Any]:
        """Return what goes into a row: nothing where nothing was asked."""
        return {"spent": asdict(self)} if self.calls else {}

    def __str__(self) -> str:
        if not self.calls:
            return ""
        cost = "price not known" if self.cost_usd is None else f"${self.cost_usd:.4f}"
        return f"{self.calls} calls, {self.prompt_tokens} + {self.completion_tokens} tokens, {cost}"
