"""Trajectories → token ids and what of them the policy said, (T,) each: as sampled, or from the text in ChatML.

Text is tokenised piece by piece, cut where the policy begins and ends to speak, as it is when a reply is sampled: no
token lies across that border, and the work grows with the length of a trajectory and not with its turns.

Source: ChatML as Qwen2.5's tokenizers have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.dialogue import Message, Turn
from terminal_gym.trajectory.record import Trajectory

IGNORED = -100  # label of a token that is not learned
BEGIN, END = "<|im_start|>", "<|im_end|>"
REPLY = f"{BEGIN}assistant\n"  # what the policy is given before it speaks
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SYSTEMS = {"chatml": "", "qwen2.5": QWEN_SYSTEM}  # template → what it says where a chat has no system message

_MESSAGE = (
    "{%- if m.role == 'assistant' %}{{- '<|im_start|>assistant\n' }}"
    "{%- generation %}{{- m.content + '<|im_end|>' }}{%- endgeneration %}{{- '\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}"
)


def template(name: str) -> str:
    """Return the training template of that name, in Jinja: what the policy says is marked with `generation`."""
    system = SYSTEMS[name]
    first = (
        "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\n"
        + system
        + "<|im_end|>\n' }}{%- endif %}"
    )
    return (
        (first if system else "")
        + "{%- for m in messages %}"
        + _MESSAGE
        + "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
    )


def plain_template(name: str) -> str:
    """Return the template of that name as servers take it, without marks."""
    return re.sub(r"\{%-? *(?:end)?generation *-?%\}", "", template(name))


@dataclass(frozen=True)
class Piece:
    """A part of a rendered chat that is wholly the policy's, or wholly not."""

    text: str
    spoken: bool


@dataclass(frozen=True, eq=False)
class Tokens:
    """One unbroken context of a trajectory."""

    ids: npt.NDArray[np.int32]  # (T,)
    spoken: npt.NDArray[np.bool_]  # (T,), True where the policy spoke and is to learn from it
    logprobs: npt.NDArray[np.float32]  # (T,), of what was sampled, 0 elsewhere
    replies: npt.NDArray[np.int64]  # (replies, 2): where each begins and ends, learned or not

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """(T,): the id where the policy spoke, else -100."""
        return np.where(self.spoken, self.ids, np.int32(IGNORED)).astype(np.int32)


# ── trajectories ────────────────────────────────────────────────────────────────────────────────


def sampled(played: Trajectory, *, malformed: bool = False) -> Iterator[Tokens]:
    """Yield the contexts of a trajectory, exactly as they were sampled; a rewritten history begins a new one.

    Args:
        played: Its turns hold token ids.
        malformed: Learn also from replies that the agent could not read.

    Raises:
        BadSetting: The server told no token ids.
    """
    draft = _Draft()
    for turn, read in _turns(played):
        if not turn.output_ids:
            advice = "Use the text, or roll out with a server that returns token ids (vLLM does)."
            raise BadSetting(f"{played.task} attempt {played.attempt} has no token ids. {advice}")
        if turn.kept_ids < len(draft.ids):
            if draft.has_learned:
                yield draft.tokens()
            draft = draft.upto(turn.kept_ids)
        draft.add(turn.prompt_ids)
        told = turn.logprobs if len(turn.logprobs) == len(turn.output_ids) else ()
        draft.say(turn.output_ids, learned=read or malformed, logprobs=told)
    if draft.has_learned:
        yield draft.tokens()


def from_text(
    played: Trajectory, tokenizer: Any, *, system: str = "", malformed: bool = False
) -> Iterator[Tokens]:
    """Yield the contexts of a trajectory, tokenised anew; summaries are left out.

    Args:
        played: Its turns hold messages of text.
        tokenizer: A tokenizer of transformers with BEGIN and END among its special tokens.
        system: What is said where the chat has no system message.
        malformed: Learn also from replies that the agent could not read.

    Raises:
        BadSetting: A message holds what this form cannot: native calls of tools, or the text of a special token.
    """
    for history in _histories(played, malformed=malformed):
        messages = [message for message, _ in history]
        if any(message.tool_calls or message.role == "tool" for message in messages):
            raise BadSetting("native calls of tools are learned from token ids only")
        if any(mark in message.content for message in messages for mark in (BEGIN, END, "<|endoftext|>")):
            raise BadSetting("a message holds the text of a special token")
        muted = [not learned for message, learned in history if message.role == "assistant"]
        yield tokens_of(pieces(messages, system=system), tokenizer, muted=muted)


def pieces(messages: Sequence[Message], *, system: str = "") -> list[Piece]:
    """Return a chat as pieces, borders where the policy begins and ends to speak; nothing follows its last word."""
    made: list[Piece] = []
    heard = [] if not system or messages[0].role == "system" else [f"{BEGIN}system\n{system}{END}\n"]
    for message in messages:
        if message.role == "assistant":
            made += [Piece("".join([*heard, REPLY]), False), Piece(message.content + END, True)]
            heard = ["\n"]
        else:
            heard.append(f"{BEGIN}{message.role}\n{message.content}{END}\n")
    return made


def tokens_of(made: Sequence[Piece], tokenizer: Any, *, muted: Sequence[bool] = ()) -> Tokens:
    """Tokenise each piece once; `muted` says which of the policy's pieces, in order, are not learned."""
    encoded = tokenizer([piece.text for piece in made], add_special_tokens=False)["input_ids"] if made else []
    silent = iter(muted)
    draft = _Draft()
    for piece, ids in zip(made, encoded, strict=True):
        if piece.spoken:
            draft.say(ids, learned=not next(silent, False))
        else:
            draft.add(ids)
    return draft.tokens()


def is_of(played: Trajectory, tokenizer: Any) -> bool:
    """Say whether the trajectory's token ids are this tokenizer's: it has them all, and its first reply decodes to
    what was recorded.
    """
    first = next((turn for turn in played.turns if turn.output_ids), None)
    if first is None:
        return False
    if any(
        max(ids, default=0) >= len(tokenizer)
        for turn in played.turns
        for ids in (turn.prompt_ids, turn.output_ids)
    ):
        return False
    said = str(tokenizer.decode(list(first.output_ids), skip_special_tokens=True)).strip()
    content, calls = first.reply.content.strip(), first.reply.tool_calls
    # A native call is in the ids, and not in the content.
    return (content in said and all(call.name in said for call in calls)) if calls else said == content


def shortened(tokens: Tokens, limit: int, *, end_id: int) -> Tokens | None:
    """Return at most `limit` tokens: the task, then as many of the last turns as there is room for.

    None where the task and the last turn alone need more, nothing is learned, or the task has no end to be found.

    Args:
        tokens: A context whose first part is the task.
        limit: > 0.
        end_id: Of the token that ends a message.
    """
    if len(tokens) <= limit:
        return tokens
    if not tokens.spoken.any():
        return None
    begins, ends = tokens.replies[:, 0], tokens.replies[:, 1]
    task_ends = np.flatnonzero(tokens.ids[: begins[0]] == end_id) if len(begins) else np.array([])
    if not len(task_ends):
        return None
    task = int(task_ends[-1]) + 1
    # A tail begins where a reply ended, with the observation that the next one answers, and teaches something.
    last = np.flatnonzero(tokens.spoken)[-1]
    fitting = np.flatnonzero((len(tokens) - ends + task <= limit) & (ends <= last))
    if not len(fitting):
        return None
    begin = int(ends[fitting[0]])
    kept = np.r_[0:task, begin : len(tokens)]
    replies = tokens.replies[fitting[0] + 1 :] - (begin - task)
    return Tokens(tokens.ids[kept], tokens.spoken[kept], tokens.logprobs[kept], replies)


def spans(tokens: Tokens) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where the policy's words begin and end, (spans,) each; found in one pass."""
    edges = np.diff(np.concatenate(([0], tokens.spoken.astype(np.int8), [0])))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


class _Draft:
    """Grows at its end."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._spoken: list[bool] = []
        self._logprobs: list[float] = []
        self._replies: list[tuple[int, int]] = []
        self.has_learned = False

    def add(self, ids: Iterable[int], *, spoken: bool = False, logprobs: Sequence[float] = ()) -> None:
        before = len(self.ids)
        self.ids.extend(ids)
        count = len(self.ids) - before
        self._spoken.extend([spoken] * count)
        self._logprobs.extend(logprobs or [0.0] * count)
        self.has_learned |= spoken and count > 0

    def say(self, ids: Iterable[int], *, learned: bool, logprobs: Sequence[float] = ()) -> None:
        """Add a reply."""
        begin = len(self.ids)
        self.add(ids, spoken=learned, logprobs=logprobs)
        self._replies.append((begin, len(self.ids)))

    def upto(self, count: int) -> _Draft:
        """Return a draft that begins with the first `count` ids, to be read and not learned again."""
        other = _Draft()
        other.add(self.ids[:count])
        other._replies = [(begin, min(end, count)) for begin, end in self._replies if begin < count]
        return other

    def tokens(self) -> Tokens:
        return Tokens(
            np.array(self.ids, dtype=np.int32),
            np.array(self._spoken, dtype=np.bool_),
            np.array(self._logprobs, dtype=np.float32),
            np.array(self._replies, dtype=np.int64).reshape(-1, 2),
        )


def _turns(played: Trajectory) -> Iterator[tuple[Turn, bool]]:
    """(turn, whether the agent could read its reply)"""
    for step in played.steps:
        for turn in step.action.turns:
            yield turn, turn.purpose != "act" or turn is step.action.understood


def _histories(played: Trajectory, *, malformed: bool) -> Iterator[list[tuple[Message, bool]]]:
    """Yield each history at its longest: (message, whether it is a reply to be learned).

    What a rewritten history repeats was learned where it was said, or is not the policy's.
    """
    history: list[tuple[Message, bool]] = []
    for turn, read in _turns(played):
        if turn.purpose != "act":
            continue
        if turn.fresh and [m for m, _ in history] != list(turn.messages[: len(history)]):
            yield history
            history = []
        history.extend((message, False) for message in turn.messages[len(history) if turn.fresh else 0 :])
        history.append((turn.reply, read or malformed))
    if history:
        yield history


# ── tokenizers ──────────────────────────────────────────────────────────────────────────────────

_PROBES: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Do it.\n"), Message("assistant", "\nls -la  ")),
    (
        Message("system", "Be brief."),
        Message("user", "  é\n\n"),
        Message("assistant", "one"),
        Message("user", "$ ls\n$ "),
        Message("assistant", "two\n"),
    ),
)


def matching(tokenizer: Any, *, name: str = "auto") -> str:
    """Return the training template that renders exactly as the tokenizer's own, after checking what it marks.

    Args:
        tokenizer: A tokenizer of transformers; one without a template is taken for plain ChatML.
        name: A key of SYSTEMS, or "auto": whichever matches.

    Raises:
        BadSetting: None matches; or one does and would mark other tokens than the policy's.
    """
    if name not in (*SYSTEMS, "auto"):
        raise BadSetting(f"template is {name!r}; it must be 'auto', {', '.join(map(repr, SYSTEMS))}.")
    for mark in (BEGIN, END):
        if len(tokenizer(mark, add_special_tokens=False)["input_ids"]) != 1:
            advice = "Use a ChatML model, such as Qwen2.5-Coder-Instruct."
            raise BadSetting(
                f"{mark} is no single token of this tokenizer: turns would have no end. {advice}"
            )
    candidates = SYSTEMS if name == "auto" else (name,)
    found = next((one for one in candidates if all(_agree(tokenizer, one, probe) for probe in _PROBES)), None)
    if found is None:
        shown = str(tokenizer.chat_template)[:160]
        advice = "Learning in one form and being asked in another spoils a policy. Use a ChatML model."
        raise BadSetting(
            f"The tokenizer's chat template renders otherwise than {' or '.join(candidates)}: {shown!r}. {advice}"
        )
    for probe in _PROBES:
        _check_marks(tokenizer, found, probe)
    return found


def _agree(tokenizer: Any, name: str, probe: Sequence[Message]) -> bool:
    if not tokenizer.chat_template:
        return name == "chatml"
    chat = [{"role": message.role, "content": message.content} for message in probe]
    try:
        told = tokenizer.apply_chat_template(chat, tokenize=False)
    except Exception:  # a template may raise anything: this one is not ours
        return False
    return bool(told == "".join(piece.text for piece in pieces(probe, system=SYSTEMS[name])) + "\n")


def _check_marks(tokenizer: Any, name: str, probe: Sequence[Message]) -> None:
    """Raise BadSetting where what is learned of a probe is not exactly what its assistant said."""
    tokens = tokens_of(pieces(probe, system=SYSTEMS[name]), tokenizer)
    begins, ends = spans(tokens)
    learned = [str(tokenizer.decode(tokens.ids[a:b].tolist())) for a, b in zip(begins, ends, strict=True)]
    said = [message.content + END for message in probe if message.role == "assistant"]
    if learned != said:
        found = f"of {said} it would learn {learned}"
        raise BadSetting(f"This tokenizer mis-masks: {found}. Its decoder or normaliser changes the text.")
