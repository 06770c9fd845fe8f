"""After the last stage: what a judge's model thinks of the accepted instances. It decides nothing.

A row of WORK/rate.jsonl is one instance: `ratings`, each from 1 to 5, and `rating`, their mean. With it, `tgym train
scorer` says whether a repository's score has to do with the quality of its instances. Rejections: bad-json, bad-field,
refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from env_registry.pipeline import prompts
from env_registry.pipeline.models import Metered, metered, opened_model
from env_registry.pipeline.settings import Settings
from env_registry.pipeline.stage import Rejected, Row, Table, Told, run_stage
from terminal_gym.errors import BadSetting, ContextFull, ModelRefused
from terminal_gym.llm.chat import ChatModel
from terminal_gym.tasks.catalogue import read_folder
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.store import locked

PROMPT = "rate-1"
ASPECTS = ("clarity", "relevance", "tests", "demand")
_SHOWN = 12_000  # characters of each text


def rate(settings: Settings, *, progress: Callable[[Row], None] = lambda row: None) -> Told:
    """Ask about every accepted instance that was not rated yet.

    Raises:
        BadSetting: No model is named.
        RunBusy: Another process works on the same folder.
        StoreError: A table cannot be read or written.
        ProviderDown, AccessDenied: As the model does; what was rated until then is kept.
    """
    with opened_model(settings.rate) as model:
        if model is None:
            raise BadSetting("Rating needs a model: set rate.model, e.g. openai/qwen2.5-coder.")
        with locked(settings.work):
            items = [(row.key, row) for row in Table(settings.work, "accept").kept]
            work = metered(Rater(settings, model), model)
            return run_stage(
                Table(settings.work, "rate"), items, work, parallel=settings.parallel, progress=progress
            )


class Rater:
    """Asks one model; safe to use from many threads."""

    def __init__(self, settings: Settings, model: ChatModel | Metered):
        self._settings, self._model = settings, model

    def __call__(self, instance: Row) -> Mapping[str, Any]:
        """Return the cells of one instance that was rated; raises Rejected where the model's answer is none."""
        task = read_folder(self._settings.work / str(instance.cells["path"]))
        solution = task.solution.script if task.solution is not None else None
        cells = {
            "instruction": task.instruction,
            "solution": solution or "(none)",
            "tests": (task.validator.tests / "test_outputs.py").read_text("utf-8"),
        }
        asked = prompts.filled(PROMPT, **{name: text[:_SHOWN] for name, text in cells.items()})
        try:
            said = self._model.complete([Message("user", asked)]).message.content
        except (ContextFull, ModelRefused) as error:
            raise Rejected("refused", f"{type(error).__name__}: {error}") from error
        ratings, reason = read_ratings(said)
        return {
            "repository": instance.cells["repository"],
            "family": instance.cells["family"],
            "model": self._model.name,
            "prompt": prompts.version(PROMPT),
            "ratings": ratings,
            "rating": sum(ratings.values()) / len(ratings),
            "why": reason[:1_000],
        }


def read_ratings(said: str) -> tuple[dict[str, int], str]:
    """Return (aspect → rating, the reason) of a model's reply.

    Raises:
        Rejected: "bad-json" or "bad-field".
    """
    try:
        body = json.loads(said[said.find("{") : said.rfind("}") + 1])
    except (ValueError, RecursionError) as error:
        raise Rejected("bad-json", f"{error}: {said[:200]!r}") from error
    if not isinstance(body, dict):
        raise Rejected("bad-json", f"not an object but {type(body).__name__}")
    for name in ASPECTS:
        value = body.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 5:
            raise Rejected("bad-field", f"{name!r} is {value!r:.80}; it must be a whole number from 1 to 5")
    return {name: body[name] for name in ASPECTS}, str(body.get("reason", ""))
