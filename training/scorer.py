"""Fits the pipeline's quality model from its own tables: does a repository with such files build?  `tgym train scorer`.

    WORK/score.jsonl    features of each file, by repository         read
    WORK/features.json  their names                                  read
    WORK/build.jsonl    whether the repository built: the label      read
    WORK/collect.jsonl  stars, of those that came from a dump        read
    WORK/accept.jsonl   what came of its instances, where there are  read
    WORK/rate.jsonl     what a judge's model thought of them, likewise  read
    OUT                 a JSON file (linear) or a checkpoint (transformer), for `score.model` of a pipeline
    OUT.metrics.json    what was measured on held-out repositories

Every file carries the label of its repository, and every repository the same weight. Whatever is measured is measured
out of fold: no repository is scored by a model that saw one of its files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from terminal_gym.errors import BadSetting, StoreError
from training.attempts import Array, Attempts, read_attempts
from training.scorer_metrics import measured

VERSION = 1


# ── the linear model ────────────────────────────────────────────────────────────────────────────


def fit_linear(tried: Attempts, *, penalty: float = 1.0) -> dict[str, list[float] | float]:
    """Return mean, scale, weights and bias of a logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression

    rows = numpy.vstack(tried.features)
    labels = numpy.repeat(tried.built, [len(one) for one in tried.features])
    weights = numpy.repeat([1 / len(one) for one in tried.features], [len(one) for one in tried.features])
    mean, scale = _standard(rows, weights)
    model = LogisticRegression(C=1 / penalty, max_iter=5_000)
    model.fit((rows - mean) / scale, labels, sample_weight=weights)
    return {
        "mean": [float(one) for one in mean],
        "scale": [float(one) for one in scale],
        "weights": [float(one) for one in model.coef_[0]],
        "bias": float(model.intercept_[0]),
    }


def _standard(rows: Array, weights: Array) -> tuple[Array, Array]:
    """The weighted mean and deviation of each feature; 1 for the latter where it is the same in all rows."""
    mean = numpy.average(rows, axis=0, weights=weights)
    scale = numpy.sqrt(numpy.average((rows - mean) ** 2, axis=0, weights=weights))
    return mean, numpy.where(scale > 1e-9, scale, 1.0)


def repository_score(model: Mapping[str, Any], features: Array) -> float:
    """Return the mean over a repository's files; features (files, features)."""
    total = ((features - model["mean"]) / model["scale"]) @ numpy.array(model["weights"]) + model["bias"]
    return float(numpy.mean(1 / (1 + numpy.exp(-numpy.clip(total, -60, 60)))))


def out_of_fold(tried: Attempts, *, folds: int, seed: int, penalty: float = 1.0) -> Array:
    """Return the score of each repository by a model that never saw it, (repositories,)."""
    from sklearn.model_selection import StratifiedKFold

    scores = numpy.zeros(len(tried.names))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(tried.built, tried.built)
    for seen, held in splits:
        model = fit_linear(_some(tried, seen), penalty=penalty)
        scores[held] = [repository_score(model, tried.features[at]) for at in held]
    return scores


def _some(tried: Attempts, which: Array) -> Attempts:
    return Attempts(
        tuple(tried.names[at] for at in which),
        tried.built[which],
        tuple(tried.features[at] for at in which),
        tuple(tried.paths[at] for at in which),
        tuple(tried.folders[at] for at in which),
    )


# ── the transformer ─────────────────────────────────────────────────────────────────────────────


def fit_transformer(
    tried: Attempts,
    base: str,
    out: Path,
    *,
    epochs: float,
    learning_rate: float,
    tokens: int,
    batch: int,
    seed: int,
) -> None:
    """Fine-tune a language model with one output on files, and save it with its tokenizer in `out`.

    Raises:
        BadSetting: The model cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    except (OSError, ValueError) as error:
        raise BadSetting(f"The model {base} cannot be loaded: {str(error)[:400]}") from error
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    rows = []
    for built, folder, paths in zip(tried.built, tried.folders, tried.paths, strict=True):
        for path in paths:
            read = tokenizer(_text(folder, path), truncation=True, max_length=tokens)
            rows.append({"input_ids": read["input_ids"], "labels": float(built)})

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        padded = tokenizer.pad({"input_ids": [one["input_ids"] for one in some]}, return_tensors="pt")
        return {**padded, "labels": torch.tensor([one["labels"] for one in some])}

    def loss(outputs: Any, labels: Any, **_: Any) -> Any:
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits[:, 0], labels)

    arguments = TrainingArguments(
        output_dir=str(out), num_train_epochs=epochs, learning_rate=learning_rate, per_device_train_batch_size=batch,
        save_strategy="no", report_to=[], seed=seed, disable_tqdm=True, logging_strategy="no",
        remove_unused_columns=False, dataloader_pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
    Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=collate, compute_loss_func=loss
    ).train()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def transformer_scores(tried: Attempts, folder: Path, *, tokens: int) -> Array:
    """Return the score of each repository by a checkpoint, (repositories,)."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scores = []
    for place, paths in zip(tried.folders, tried.paths, strict=True):
        each = []
        for path in paths:
            read = tokenizer(_text(place, path), truncation=True, max_length=tokens, return_tensors="pt")
            with torch.no_grad():
                each.append(float(torch.sigmoid(model(**read).logits[0, 0])))
        scores.append(float(numpy.mean(each)))
    return numpy.array(scores)


def _text(folder: Path, path: str) -> str:
    """As the pipeline's Transformer reads a file: its path, a newline, and its first 20,000 characters."""
    try:
        return f"{path}\n{(folder / path).read_text('utf-8', 'replace')[:20_000]}"
    except OSError as error:
        raise StoreError(
            f"{folder / path} cannot be read: {error.strerror}. Keep the pipeline's sources."
        ) from error


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def train(
    work: Path, out: Path, *, kind: str = "linear", base: str = "", folds: int = 5,
    seed: int = 0, epochs: float = 1.0, learning_rate: float = 2e-5, tokens: int = 1024, batch: int = 8,
) -> dict[str, Any]:  # fmt: skip
    """Fit a scorer, write it and what was measured; returns the latter.

    Raises:
        BadSetting: The tables hold too little, a setting does not fit, or `out` exists.
    """
    if kind not in ("linear", "transformer") or (kind == "transformer") != bool(base):
        raise BadSetting(
            f"kind is {kind!r} and base {base!r}: choose linear, or transformer with a base model."
        )
    if out.exists():
        raise BadSetting(f"{out} exists. Name a new file.")
    tried, features = read_attempts(work), json.loads((work / "features.json").read_text("utf-8"))
    if any(one.shape[1] != len(features) for one in tried.features):
        raise BadSetting(f"{work / 'score.jsonl'} holds other features. Score again with this version.")
    if kind == "linear":
        told = measured(tried, out_of_fold(tried, folds=folds, seed=seed), work=work, seed=seed)
        body = {"version": VERSION, "features": features, **fit_linear(tried)}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(body, indent=1) + "\n", "utf-8")
    else:
        rng = numpy.random.default_rng(seed)
        held = numpy.sort(rng.permutation(len(tried.names))[: max(2, len(tried.names) // folds)])
        seen = numpy.setdiff1d(numpy.arange(len(tried.names)), held)
        fit_transformer(
            _some(tried, seen), base, out, epochs=epochs, learning_rate=learning_rate, tokens=tokens, batch=batch,
            seed=seed,
        )  # fmt: skip
        rest = _some(tried, held)
        if len(set(rest.built.tolist())) < 2:
            raise BadSetting(
                "The held-out repositories have one outcome only. Use another seed, or more repositories."
            )
        told = measured(rest, transformer_scores(rest, out, tokens=tokens), work=work, seed=seed)
    told = {"version": VERSION, "kind": kind, "base": base, "folds": folds, "seed": seed, **told}
    (out.parent / f"{out.name}.metrics.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return told
