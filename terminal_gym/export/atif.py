"""Trajectory → ATIF 1.8, the Agent Trajectory Interchange Format of Harbor.

Terminus' batches become `bash_command` calls, its end `mark_task_complete`, as Harbor's own Terminus-2 writes them.

Source: Harbor's ATIF 1.8; unknown keys are forbidden there, so none is added outside `extra`.
"""

from __future__ import annotations

from typing import Any

from terminal_gym.trajectory.dialogue import Message, Turn
from terminal_gym.trajectory.record import Step, Trajectory

VERSION = "ATIF-v1.8"


def as_atif(played: Trajectory) -> dict[str, Any]:
    """Return the trajectory as one JSON object."""
    steps = [_said("user", played.instruction)] if not played.turns else []
    for number, step in enumerate(played.steps, 1):
        for turn in step.action.turns[:-1]:  # what led to no action: malformed replies, summaries
            steps += [*map(_heard, _new(turn)), _unacted(turn, played.model)]
        if step.action.turns:
            steps += map(_heard, _new(step.action.turns[-1]))
        steps.append(_acted(step, number, played.model))
    usage = played.usage
    final = {
        "total_prompt_tokens": usage.prompt_tokens,
        "total_completion_tokens": usage.completion_tokens,
        "total_cached_tokens": usage.cached_tokens,
        "total_steps": len(steps),
    }
    if usage.cost_usd is not None:
        final["total_cost_usd"] = usage.cost_usd  # type: ignore[assignment]
    agent: dict[str, Any] = {"name": played.agent, "version": played.versions.get("terminal-gym", "unknown")}
    if played.model:
        agent["model_name"] = played.model
    return {
        "schema_version": VERSION,
        "session_id": f"{played.task}/{played.attempt}",
        "trajectory_id": f"{played.task}/{played.attempt}",
        "agent": agent,
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, 1)],
        "final_metrics": final,
        "extra": {
            "task": played.task,
            "status": played.outcome.status,
            "reward": played.outcome.reward,
            "checks": [{"id": check.id, "outcome": check.outcome} for check in played.outcome.checks],
            "image_digest": played.image_digest,
        },
    }


def _new(turn: Turn) -> tuple[Message, ...]:
    """Return what the model was told now; an observation of ours is in the step before it already."""
    return turn.messages if turn.fresh else ()


def _heard(message: Message) -> dict[str, Any]:
    source = {"system": "system", "assistant": "agent"}.get(message.role, "user")
    return _said(source, message.content)


def _said(source: str, text: str) -> dict[str, Any]:
    return {"source": source, "message": text}


def _unacted(turn: Turn, model: str) -> dict[str, Any]:
    return {**_said("agent", turn.reply.content), **_of_model(turn, model)}


def _acted(step: Step, number: int, model: str) -> dict[str, Any]:
    action = step.action
    said = _said("agent", action.text)
    if action.turns:
        said |= _of_model(action.turns[-1], model)
    else:
        said["llm_call_count"] = 0
    calls = [
        _call(f"call_{number}_{k}", "bash_command", arguments) for k, arguments in enumerate(_typed(step), 1)
    ]
    if action.submit:
        calls.append(_call(f"call_{number}_task_complete", "mark_task_complete", {}))
    if calls:
        said["tool_calls"] = calls
    result: dict[str, Any] = {"content": step.observation.output or step.observation.screen}
    if len(calls) == 1:
        result["source_call_id"] = calls[0]["tool_call_id"]
    said["observation"] = {"results": [result]}
    return said


def _typed(step: Step) -> list[dict[str, Any]]:
    action = step.action
    if action.command is not None:
        return [{"keystrokes": action.command + "\n", "duration": action.wait_s or 0.0}]
    waits = action.waits_s or (action.wait_s or 0.0,) * len(action.keys)
    texts = [keys.decode("utf-8", "replace") for keys in action.keys]
    return [{"keystrokes": text, "duration": wait_s} for text, wait_s in zip(texts, waits, strict=True)]


def _call(id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"tool_call_id": id, "function_name": name, "arguments": arguments}


def _of_model(turn: Turn, model: str) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "prompt_tokens": turn.usage.prompt_tokens,
        "completion_tokens": turn.usage.completion_tokens,
        "cached_tokens": turn.usage.cached_tokens,
    }
    if turn.usage.cost_usd is not None:
        metrics["cost_usd"] = turn.usage.cost_usd
    if turn.output_ids:
        metrics |= {"completion_token_ids": list(turn.output_ids)}
    if turn.logprobs:
        metrics |= {"logprobs": list(turn.logprobs)}
    of_model: dict[str, Any] = {"metrics": metrics, "llm_call_count": 1}
    if model:
        of_model["model_name"] = model
    if turn.reasoning:
        of_model["reasoning_content"] = turn.reasoning
    return of_model
