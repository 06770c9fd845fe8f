"""Muon in float32, matrices of one shape together.

torch's own computes in bfloat16, which a processor without such arithmetic emulates: there it took most of a step.
Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks": coefficients, five iterations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Return (n, rows, cols) with singular values near 1, each matrix with the singular vectors it had."""
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):  # type: ignore[misc]  # torch is read as Any
    """Trains matrices; momentum as Nesterov's, decoupled weight decay.

    Args:
        matrices: Parameters of two dimensions.
        lr: Of a square matrix; a tall one takes longer steps, by the root of rows over columns.
        momentum: Of the gradients.
        weight_decay: Per unit of `lr`.
    """

    def __init__(
        self, matrices: Iterable[Any], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()  # type: ignore[untyped-decorator,unused-ignore]
    def step(self, closure: Any = None) -> None:
        """Take one step."""
        for group in self.param_groups:
            alike: dict[Any, list[Any]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for (rows, cols), matrices in alike.items():
                updates = orthogonal(
                    torch.stack([self._pushed(each, group["momentum"]) for each in matrices])
                )
                length = group["lr"] * max(1.0, rows / cols) ** 0.5
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1.0 - group["lr"] * group["weight_decay"]).add_(update, alpha=-length)

    def _pushed(self, matrix: Any, momentum: float) -> Any:
        state = self.state[matrix]
        if "pace" not in state:
            state["pace"] = torch.zeros_like(matrix)
        pace = state["pace"].lerp_(matrix.grad, 1.0 - momentum)
        return matrix.grad.lerp(pace, momentum)
