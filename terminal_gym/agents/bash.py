"""One command a turn, in a fenced block or as a native call of a tool; its output and exit code come back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Literal

from terminal_gym.agents import prompts
from terminal_gym.agents.terminus import BAD_REPLIES, clipped
from terminal_gym.errors import BadSetting, ContextFull
from terminal_gym.llm import reply
from terminal_gym.llm.chat import ChatModel, Completion, Sampling, Tool
from terminal_gym.llm.conversation import Conversation
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.dialogue import Message, ToolCall
from terminal_gym.trajectory.record import Action, Observation

_FENCE = re.compile(r"^```(?:bash|sh|shell)?[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_NO_BLOCK = "There was no command in your reply. Give exactly one, in a block that begins with ```bash."
_TOO_LONG = "Your reply was cut off before its end, and nothing was run. Give a shorter one."
_NO_CALL = "There was no call of a tool in your reply. Call `bash` with one command, or `submit`."
_DROPPED = "[dropped: there was no room for it any more]"
TOOLS = (
    Tool(
        "bash",
        "Run one command in the shell.",
        {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    ),
    Tool("submit", "The task is done: end the episode.", {"type": "object", "properties": {}}),
)


class Bash:
    """Runs one command a turn.

    Args:
        model: Whom to ask.
        tools: "fenced" blocks in the text, or "native" calls.
        output_bytes: Shown of a command's output, the middle left out.
        brief: Say the task alone, without the rules: for a model that was trained on them.
        sampling: How replies are sampled; None: as the model was made.
    """

    name = "bash"

    def __init__(
        self,
        model: ChatModel,
        *,
        tools: Literal["fenced", "native"] = "fenced",
        output_bytes: int = 10_000,
        brief: bool = False,
        sampling: Sampling | None = None,
    ):
        if tools not in ("fenced", "native"):
            raise BadSetting(f"tools is {tools!r}; it must be 'fenced' or 'native'.")
        self._model, self._native, self._sampling = model, tools == "native", sampling
        self._output_bytes, self._brief = output_bytes, brief
        self._forget()

    def _forget(self) -> None:
        self._talk = Conversation(self._model, sampling=self._sampling, tools=TOOLS if self._native else ())
        self._calls: tuple[ToolCall, ...] = ()
        self._instruction = ""

    def begin(self, task: Task) -> None:
        self._forget()
        self._instruction = task.instruction

    def act(self, seen: Observation) -> Action:
        """Ask the model until it gives a command; raises what the model raises."""
        asked = self._messages(self._told(seen))
        for _ in range(BAD_REPLIES):
            with self._talk.giving_up():
                said = self._ask(asked)
            self._calls = said.message.tool_calls
            action, complaint = self._read(said)
            if action is not None:
                return replace(action, text=said.message.content, turns=self._talk.take_turns())
            asked = self._messages(complaint)
        return Action(text=complaint, turns=self._talk.take_turns())

    def _told(self, seen: Observation) -> str:
        if not self._talk.messages:
            if self._brief:
                return self._instruction
            name = "bash_native" if self._native else "bash"
            return prompts.filled(name, instruction=self._instruction)
        code = "unknown: it still runs, or waits for input" if seen.exit_code is None else str(seen.exit_code)
        output = clipped(seen.output, self._output_bytes).rstrip("\n")
        return "\n".join(part for part in (seen.complaint, output, f"[exit code {code}]") if part)

    def _messages(self, text: str) -> tuple[Message, ...]:
        """Return `text` as the answer to what the model said last."""
        if not self._calls:
            return (Message("user", text),)
        first, *others = self._calls
        unasked = "Not carried out: one call a turn."
        return (
            Message("tool", text, tool_call_id=first.id),
            *(Message("tool", unasked, tool_call_id=call.id) for call in others),
        )

    def _read(self, said: Completion) -> tuple[Action | None, str]:
        """(action, "") or (None, complaint)"""
        if said.finish == "length":
            return None, _TOO_LONG
        if self._native:
            return _called(said.message.tool_calls[0]) if said.message.tool_calls else (None, _NO_CALL)
        if said.message.content.strip() == reply.SUBMIT:
            return Action(submit=True), ""
        block = _FENCE.search(said.message.content)
        return (_action(block[1]), "") if block and block[1].strip() else (None, _NO_BLOCK)

    def _ask(self, asked: tuple[Message, ...]) -> Completion:
        """Ask; where the context is full, drop the oldest outputs first, the task and the latest never."""
        while True:
            try:
                return self._talk.ask(*asked)
            except ContextFull:
                if not self._dropped_one():
                    raise

    def _dropped_one(self) -> bool:
        messages = list(self._talk.messages)
        for at, message in enumerate(messages[1:-2], 1):
            if message.role in ("user", "tool") and message.content != _DROPPED:
                messages[at] = replace(message, content=_DROPPED)
                self._talk.rewrite(messages)
                return True
        return False


def _action(command: str) -> Action:
    text = command.strip("\n")
    return Action(submit=True) if text.strip() == reply.SUBMIT else reply.bash(text)


def _called(call: ToolCall) -> tuple[Action | None, str]:
    if call.name == "submit":
        return Action(submit=True), ""
    if call.name != "bash":
        return None, f"There is no tool {call.name!r}; call `bash` or `submit`."
    try:
        given = json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        return None, f"The arguments are not JSON: {error}. Nothing was run."
    command = given.get("command") if isinstance(given, dict) else None
    if not isinstance(command, str) or not command.strip():
        return None, "`bash` needs one argument: command, a string. Nothing was run."
    return reply.bash(command), ""
