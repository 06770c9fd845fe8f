"""Terminus-2: a batch of keystrokes a turn, in JSON or XML, on a terminal of 160×40.

Differences to upstream: an entry's duration bounds its wait, and the terminal settles earlier where input is wanted;
what is new on the terminal is what was printed since the last action, where upstream compares captures of tmux's
history.

Source: Terminal-Bench 1.0 and Harbor, Terminus-2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from terminal_gym.agents import prompts
from terminal_gym.errors import BadSetting, ContextFull
from terminal_gym.llm import reply, terminus_xml
from terminal_gym.llm.chat import ChatModel, Completion, Sampling
from terminal_gym.llm.conversation import Conversation
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.dialogue import Message
from terminal_gym.trajectory.record import Action, Observation

Parser = Literal["json", "xml"]
OUTPUT_BYTES = 10_000
BAD_REPLIES = 10  # in a row; then the agent only looks, and the environment's limits go on counting
_ROOM_TOKENS = 8_000  # that are to be free, or a quarter of a small context
_AGAIN = {
    "json": 'include "task_complete": true in your JSON response again.',
    "xml": "include <task_complete>true</task_complete> again.",
}
_SURE = (
    "Are you sure you want to mark the task as complete? This will trigger your solution to be graded and you won't be "
    "able to make any further corrections. If so, "
)
_TOO_LONG = (
    "ERROR!! NONE of the actions you just requested were performed because you exceeded {tokens} tokens. "
    "Please break your work into smaller parts and give a shorter response."
)


class Terminus:
    """Plays as Terminus-2 does.

    Args:
        model: Whom to ask.
        parser: Form of the replies.
        room_tokens: Summarise when fewer tokens than this are free; None: 8,000, or a quarter of a small context; 0:
            only when the context is full.
        sampling: How replies are sampled; None: as the model was made.
    """

    name = "terminus"

    def __init__(
        self,
        model: ChatModel,
        *,
        parser: Parser = "json",
        room_tokens: int | None = None,
        sampling: Sampling | None = None,
    ):
        if parser not in ("json", "xml"):
            raise BadSetting(f"parser is {parser!r}; it must be 'json' or 'xml'.")
        self._model, self._parser, self._sampling = model, parser, sampling
        self._room = room_tokens
        self._forget()

    def _forget(self) -> None:
        self._talk = Conversation(self._model, sampling=self._sampling)
        self._instruction = self._warnings = ""
        self._is_sure, self._first = False, True

    def begin(self, task: Task) -> None:
        self._forget()
        self._instruction = task.instruction

    def act(self, seen: Observation) -> Action:
        """Ask the model until it gives a batch; raises what the model raises."""
        prompt = self._prompt(seen)
        for _ in range(BAD_REPLIES):
            with self._talk.giving_up():
                said = self._ask(prompt, seen)
            read = self._read(said)
            if read.action is not None:
                return self._done(read.action, read.complaint)
            prompt = read.complaint
        return Action(text=prompt, turns=self._talk.take_turns())

    def _done(self, action: Action, warnings: str) -> Action:
        submit = action.submit and self._is_sure
        self._is_sure, self._warnings = action.submit, warnings
        return replace(action, submit=submit, turns=self._talk.take_turns())

    def _read(self, said: Completion) -> reply.Reply:
        text = said.message.content
        if said.finish == "length":
            text = terminus_xml.usable_part(text) if self._parser == "xml" else ""
            if not text:
                return reply.Reply(None, _TOO_LONG.format(tokens=said.usage.completion_tokens))
        return reply.terminus(text) if self._parser == "json" else terminus_xml.terminus_xml(text)

    # ── what the model is told ──────────────────────────────────────────────────────────────────

    def _prompt(self, seen: Observation) -> str:
        if self._first:
            self._first = False
            name = f"terminus_{self._parser}"
            return prompts.filled(
                name, instruction=self._instruction, terminal_state=clipped(screen_text(seen))
            )
        text = clipped(new_text(seen))
        if seen.complaint:
            text = f"{seen.complaint}\n\n{text}"
        if self._is_sure:
            return f"Current terminal state:\n{text}\n\n{_SURE}{_AGAIN[self._parser]}"
        return f"{self._warnings}\n\n{text}" if self._warnings else text

    # ── room ────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, prompt: str, seen: Observation) -> Completion:
        asked = Message("user", prompt)
        if self._is_tight(asked):
            asked = self._summed_up(seen)
        try:
            return self._talk.ask(asked)
        except ContextFull:
            if len(self._talk.messages) < 2:
                raise  # the task alone does not fit
        self._drop_latest()
        return self._talk.ask(self._summed_up(seen))

    def _is_tight(self, asked: Message) -> bool:
        if len(self._talk.messages) < 4:
            return False
        most = self._model.context_tokens
        room = min(_ROOM_TOKENS, most // 4) if self._room is None else self._room
        return most - self._model.count_tokens([*self._talk.messages, asked]) < room

    def _drop_latest(self) -> None:
        """Drop the latest pairs until there is room for a summary."""
        messages, most = list(self._talk.messages), self._model.context_tokens
        while len(messages) > 2 and most - self._model.count_tokens(messages) < min(4_000, most // 4):
            del messages[-2:]
        self._talk.rewrite(messages)

    def _summed_up(self, seen: Observation) -> Message:
        """Begin a conversation anew from a summary, three calls away; returns what to go on with."""
        first, history = self._talk.messages[0], self._talk.messages
        state = clipped(screen_text(seen))
        try:
            ask = Message("user", prompts.filled("terminus_summary", instruction=self._instruction))
            summary = self._talk.aside(*history, ask).message
            cells = {"instruction": self._instruction, "summary": summary.content, "terminal_state": state}
            questions = Message("user", prompts.filled("terminus_questions", **cells))
            asked = self._talk.aside(questions).message
            answers = self._talk.aside(*history, ask, summary, Message("user", asked.content)).message
        except ContextFull:
            self._talk.rewrite(())
            return Message("user", f"{first.content}\n\n{seen.screen[-1_000:]}")
        self._talk.rewrite((first, questions, asked))
        go_on = "These are the answers. Go on with the task from here, in the form first asked for. No more questions."
        return Message("user", f"{answers.content}\n\n{go_on}\n\n{state}")


def screen_text(seen: Observation) -> str:
    """Return the screen, with its heading."""
    return f"Current Terminal Screen:\n{seen.screen}"


def new_text(seen: Observation) -> str:
    """Return what was printed since the last action; the screen, where nothing was or a program fills it."""
    lines = [line.rstrip() for line in seen.output.splitlines() if line.strip()]
    shown = [line.rstrip() for line in seen.screen.splitlines() if line.strip()]
    if not lines or not shown or not lines[-1].endswith(shown[-1][-20:]):
        return screen_text(seen)
    return f"New Terminal Output:\n{seen.output}"


def clipped(text: str, limit: int = OUTPUT_BYTES) -> str:
    """Return at most `limit` bytes of `text`, the middle left out."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    head, tail = raw[: limit // 2], raw[-(limit // 2) :]
    omitted = len(raw) - len(head) - len(tail)
    said = f"\n[... output limited to {limit} bytes; {omitted} interior bytes omitted ...]\n"
    return head.decode("utf-8", "ignore") + said + tail.decode("utf-8", "ignore")
