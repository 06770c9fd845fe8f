"""Stage 2: candidates → those worth a build. The open counterpart of the paper's ScoreModel.

A file's score estimates that its repository is complete and builds; a repository's score is the mean over its files;
below the threshold it is dropped. Rejections: low-score, no-code.

Two implementations answer to one protocol: a linear model on documented features, kept as JSON, and a transformer with
one output. `tgym train scorer` makes both from the tables of stages 2 and 3.

Source: the score's grain, mean and threshold are TerminalTraj's (arXiv 2602.01244); model and features are our own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from env_registry.pipeline.facts import TextFile, text_files
from env_registry.pipeline.features import FEATURES, file_features, repository_features, sample
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Rejected, Row
from terminal_gym.errors import BadSetting

VERSION = 1
NAMES = "features.json"
PRIOR = Path(__file__).with_name("prior.json")


class FileScorer(Protocol):
    """Scores files."""

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    def scores(self, files: Sequence[TextFile], features: Sequence[Sequence[float]]) -> list[float]:
        """Return one number in [0, 1] for each file; `features` are theirs, in the order of FEATURES."""
        ...


@dataclass(frozen=True)
class Linear:
    """A logistic model on standardised features."""

    name: str
    mean: tuple[float, ...]  # (features,)
    scale: tuple[float, ...]  # (features,), > 0
    weights: tuple[float, ...]  # (features,)
    bias: float

    def scores(self, files: Sequence[TextFile], features: Sequence[Sequence[float]]) -> list[float]:
        return [self._one(row) for row in features]

    def _one(self, row: Sequence[float]) -> float:
        terms = zip(row, self.mean, self.scale, self.weights, strict=True)
        total = self.bias + sum((value - mean) / scale * weight for value, mean, scale, weight in terms)
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


class Transformer:
    """A sequence classifier with one output, as `tgym train scorer --kind transformer` leaves it; needs `[train]`.

    Args:
        folder: The checkpoint.
        tokens: Of one file, from its beginning.
    """

    def __init__(self, folder: Path, *, tokens: int = 1024):
        try:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise BadSetting(
                f"{folder} is a transformer, and {error.name} is missing: pip install -e '.[train]'"
            ) from error
        self.name = f"transformer:{folder.name}"
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self._tokens = min(tokens, int(getattr(self._model.config, "max_position_embeddings", tokens)))

    def scores(self, files: Sequence[TextFile], features: Sequence[Sequence[float]]) -> list[float]:
        found: list[float] = []
        for file in files:
            read = self._tokenizer(
                f"{file.path}\n{file.text[:20_000]}",
                truncation=True,
                max_length=self._tokens,
                return_tensors="pt",
            )
            with self._torch.no_grad():
                found.append(float(self._torch.sigmoid(self._model(**read).logits[0, 0])))
        return found


def open_scorer(path: Path | None) -> FileScorer:
    """Return the scorer in a model file or a checkpoint folder; None: the prior that ships.

    Raises:
        BadSetting: It is neither, or was made for other features.
    """
    path = path or PRIOR
    if path.is_dir():
        return Transformer(path)
    try:
        body = json.loads(path.read_text("utf-8"))
        known = list(body["features"])
        mean, scale, weights = (tuple(map(float, body[key])) for key in ("mean", "scale", "weights"))
        model = Linear(path.stem, mean, scale, weights, float(body["bias"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadSetting(
            f"{path} is no scorer: {type(error).__name__}: {error}. Make one with `tgym train scorer`."
        ) from error
    if body.get("version") != VERSION or known != list(FEATURES):
        raise BadSetting(f"{path} was made for other features. Train it anew with `tgym train scorer`.")
    return model


class Scorer:
    """Scores candidates; the rows keep the features, for training."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._model = open_scorer(settings.folder / settings.score.model if settings.score.model else None)
        settings.work.mkdir(parents=True, exist_ok=True)
        (settings.work / NAMES).write_text(
            json.dumps(list(FEATURES)) + "\n", "utf-8"
        )  # for who reads the table

    def __call__(self, candidate: Row) -> Mapping[str, Any]:
        """Return the cells of one candidate that is worth a build; raises Rejected for one that is not."""
        files = list(text_files(self._settings.work / candidate.cells["folder"]))
        chosen = sample(files, self._settings.score.files)
        if not chosen:
            raise Rejected("no-code", "no readable file")
        shared = repository_features(files)
        features = [file_features(file, shared) for file in chosen]
        scores = self._model.scores(chosen, features)
        score = sum(scores) / len(scores)
        cells = {
            "score": round(score, 6),
            "model": self._model.name,
            "language": candidate.cells["language"],
            "folder": candidate.cells["folder"],
            "paths": [file.path for file in chosen],
            "features": [[round(value, 5) for value in row] for row in features],
        }
        if score < self._settings.score.threshold:
            raise Rejected("low-score", f"{score:.3f} < {self._settings.score.threshold}", **cells)
        return cells
