"""Trajectories → rows of a data set: chats, exact token ids, preference pairs. Generators: nothing is held.

A history that was rewritten (summaries, dropped outputs) begins a new row: what a model is trained to say must be what
it said after exactly these messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from terminal_gym.errors import BadSetting
from terminal_gym.trajectory.dialogue import Message, Turn, prompts
from terminal_gym.trajectory.record import Step, Trajectory

Row = dict[str, Any]
IGNORED = -100  # label of a token that is not learned


def facts(played: Trajectory) -> Row:
    """Return what each row says of the attempt it came from."""
    return {
        "task": played.task,
        "attempt": played.attempt,
        "status": played.outcome.status,
        "reward": played.outcome.reward,
        "agent": played.agent,
        "model": played.model,
        "steps": len(played.steps),
    }


def chats(played: Trajectory) -> Iterator[Row]:
    """Yield `{"messages": [{"role", "content"}, …]}`, one row per history; TRL's conversational form."""
    for histories in _histories(played.turns):
        yield {"messages": [_chat(message) for message in histories], **facts(played)}


def tokens(played: Trajectory) -> Iterator[Row]:
    """Yield `input_ids` and `labels`, (T,) each, as sampled: a label is its id where the model spoke, else -100.

    One row per unbroken chain of prompts. `logprobs`, (T,), holds 0.0 where the model did not speak.

    Raises:
        BadSetting: The server told no token ids.
    """
    ids: list[int] = []
    labels: list[int] = []
    logprobs: list[float] = []
    for turn in played.turns:
        if not turn.output_ids:
            advice = "Export messages, or roll out with a server that returns token ids (vLLM does)."
            raise BadSetting(f"{played.task} attempt {played.attempt} has no token ids. {advice}")
        if ids and turn.kept_ids < len(ids):
            yield {"input_ids": ids, "labels": labels, "logprobs": logprobs, **facts(played)}
            ids, labels, logprobs = ids[: turn.kept_ids], [IGNORED] * turn.kept_ids, [0.0] * turn.kept_ids
        ids = [*ids, *turn.prompt_ids, *turn.output_ids]
        labels = [*labels, *[IGNORED] * len(turn.prompt_ids), *turn.output_ids]
        told = turn.logprobs if len(turn.logprobs) == len(turn.output_ids) else [0.0] * len(turn.output_ids)
        logprobs = [*logprobs, *[0.0] * len(turn.prompt_ids), *told]
    if ids:
        yield {"input_ids": ids, "labels": labels, "logprobs": logprobs, **facts(played)}


def preferences(attempts: Iterable[Trajectory]) -> Iterator[Row]:
    """Yield `prompt`, `chosen` and `rejected` chats: each passed attempt at a task beside a failed one at it.

    The prompt is what both were told first; pairs are made in order, and each attempt is used once.
    """
    waiting: dict[tuple[str, str], list[tuple[bool, list[Row]]]] = {}
    for played in attempts:
        if played.outcome.status == "broken":
            continue
        messages = next(iter(_histories(played.turns)), ())
        if len(messages) < 2:
            continue
        prompt, passed = messages[0].content, played.outcome.status == "passed"
        others = waiting.setdefault((played.task, prompt), [])
        mine = [_chat(message) for message in messages]
        match = next((other for other in others if other[0] != passed), None)
        if match is None:
            others.append((passed, mine))
            continue
        others.remove(match)
        chosen, rejected = (mine, match[1]) if passed else (match[1], mine)
        yield {"prompt": chosen[:1], "chosen": chosen[1:], "rejected": rejected[1:], "task": played.task}


def _histories(turns: Iterable[Turn]) -> Iterator[tuple[Message, ...]]:
    """Yield each history at its longest, the model's last word included; summaries are left out."""
    longest: tuple[Message, ...] = ()
    for prompt in prompts(turns):
        if prompt.turn.purpose != "act":
            continue
        if longest and prompt.messages[: len(longest)] != longest:
            yield longest
        longest = (*prompt.messages, prompt.turn.reply)
    if longest:
        yield longest


def _chat(message: Message) -> Row:
    chat: Row = {"role": message.role, "content": message.content}
    if message.tool_calls:
        chat["tool_calls"] = [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        chat["tool_call_id"] = message.tool_call_id
    return chat


def whole(played: Trajectory) -> Iterator[Row]:
    """Yield the one row that holds the attempt: its longest history, what was typed, what was seen, and the verdict."""
    histories = list(_histories(played.turns))
    yield {
        **facts(played),
        "reason": played.outcome.reason,
        "limit": played.limit,
        "instruction": played.instruction,
        "task_hash": played.task_hash,
        "image_digest": played.image_digest,
        "runtime": played.runtime,
        "seed": played.seed,
        "seconds": played.seconds.get("total", 0.0),
        "prompt_tokens": played.usage.prompt_tokens,
        "completion_tokens": played.usage.completion_tokens,
        "messages": [_chat(message) for message in max(histories, key=len, default=())],
        "actions": [_played(step) for step in played.steps],
        "checks": [{"id": check.id, "outcome": check.outcome} for check in played.outcome.checks],
        "integrity": list(played.outcome.integrity),
    }


def _played(step: Step) -> Row:
    typed = b"".join(step.action.keys).decode("utf-8", "replace")
    return {
        "typed": typed if step.action.command is None else step.action.command,
        "submit": step.action.submit,
        "output": step.observation.output,
        "exit_code": step.observation.exit_code,
        "began_s": step.began_s,
        "ended_s": step.ended_s,
    }


def as_line(row: Row) -> str:
    """Return a row as one line of JSON."""
    return json.dumps(row, ensure_ascii=True, allow_nan=False)
