"""The one file that knows both the trainer's rollout hook and ours: episodes on threads, replies decoded in batches.

Our own loop and agents play: each asks `BatchModel`, which waits until the trainer's process decodes what all episodes
ask for at that time. Ids go in and out as they are; an episode is one context, prompt and all turns. Nothing that the
trainer starts is left running: see `Rollouts.close`.

Source: trl 1.16, `GRPOTrainer(rollout_func=…)`.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from terminal_gym.agents.agent import Agent, open_agent
from terminal_gym.env import TerminalEnv
from terminal_gym.errors import BadSetting, ModelRefused, SandboxError, TaskError
from terminal_gym.llm.chat import Completion, Sampling, Tool
from terminal_gym.machine import WarmPool
from terminal_gym.rollout.episode import run_episode
from terminal_gym.rollout.place import COLS, ROWS
from terminal_gym.sandbox.base import Runtime, open_runtime
from terminal_gym.tasks.task import Task
from terminal_gym.trajectory.dialogue import Message, Usage
from terminal_gym.trajectory.record import Action, Observation, Outcome, Trajectory
from training import chat_format
from training.chat_format import BEGIN, END, REPLY

_POLL_S = 0.02  # without patience: how often those that play are asked whether they still do
Ids = list[int]
Generate = Callable[[list[Ids]], tuple[list[Ids], list[list[float]] | None]]
"""Prompts → replies and their log-probabilities, None where nobody tells; called by one thread."""
Agree = Callable[[int], int]
"""How many prompts I have → how many the process with the most has: all decode together, or none does."""


@dataclass(frozen=True)
class Live:
    """How episodes are played while a policy learns."""

    agent: Literal["bash", "terminus"] = "bash"
    brief: bool = False
    """Of the agent `bash`: say the task alone, without the rules, to a model that has learned them."""
    runtime: str = "auto"
    episodes: int = 16
    """At once."""
    starts: int = 4
    """Sandboxes that start at once."""
    max_steps: int = 30
    """Of each episode, beside the task's own limit."""
    most_repeats: int = 5
    """The same action so many times in a row ends the episode: a loop."""
    completion_tokens: int = 16_384
    """That an episode may add to its first prompt, what is shown to the policy included."""
    patience_s: float = 0.25
    """How long a batch waits for episodes whose commands still run."""

    def __post_init__(self) -> None:
        for name in ("episodes", "starts", "max_steps", "most_repeats", "completion_tokens"):
            if getattr(self, name) < 1:
                raise BadSetting(f"live.{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.patience_s < 0:
            raise BadSetting(f"live.patience_s is {self.patience_s}; it must be 0 or more.")

    def agent_settings(self) -> dict[str, Any]:
        """Return the settings of the agent.

        Raises:
            BadSetting: It has no such setting.
        """
        if self.brief and self.agent != "bash":
            raise BadSetting(
                f"live.brief is of the agent bash, and live.agent is {self.agent}. Leave it out."
            )
        return {"brief": True} if self.brief else {}

    def check(self) -> None:
        """Raise UsageError where the agent has no such setting, or there is no runtime of that name."""
        self.agent_settings()
        if self.runtime != "auto":
            open_runtime(self.runtime).close()


def check_tasks(tasks: Iterable[Task]) -> None:
    """Raise BadSetting where an episode would be several conversations: a trainer takes it as one row."""
    for task in tasks:
        if task.steps:
            found = f"{task.ref} has {len(task.steps)} steps, and each begins a conversation of its own"
            raise BadSetting(f"{found}: its episodes are no single row of tokens. Leave it out.")


class BudgetSpent(ModelRefused):
    """An episode has no tokens left, or would go on from another history."""


@dataclass(frozen=True)
class Episode:
    """One episode, as a trainer takes it."""

    task: str
    played: Trajectory
    prompt: Ids
    completion: Ids  # never empty
    mask: list[int]  # 1 where the policy spoke
    logprobs: list[float]  # of the completion, 0 where it did not
    truncated: str  # what ended it, where the policy did not


@dataclass(frozen=True)
class _Request:
    prompt: Ids
    reply: Future[tuple[Ids, list[float]]]


class BatchModel:
    """A ChatModel whose replies are decoded by whoever calls `serve`.

    Args:
        tokenizer: Of the policy.
        template: A key of `chat_format.SYSTEMS`.
        context_tokens: Of prompt and reply together.
        completion_tokens: That a conversation may add to its first prompt.
    """

    name = "policy"

    def __init__(self, tokenizer: Any, *, template: str, context_tokens: int, completion_tokens: int):
        self._tokenizer, self._system = tokenizer, chat_format.SYSTEMS[template]
        self.context_tokens, self._budget = context_tokens, completion_tokens
        self._end = int(tokenizer(END, add_special_tokens=False)["input_ids"][0])
        self._asked: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._unanswered: dict[int, _Request] = {}  # asked, or taken for a batch that may never be decoded
        self._known: dict[str, tuple[int, tuple[Message, ...], Ids]] = {}
        self._mutex = threading.Lock()  # a fast tokenizer must not be borrowed twice
        self._closed = False

    def complete(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        session: str = "",
    ) -> Completion:
        """Return the policy's next message; see `ChatModel`. How it is sampled is the trainer's to say.

        Raises:
            BudgetSpent: There is no token left, or the history is another than before.
        """
        first, prompt = self._prompt(tuple(messages), session)
        if len(prompt) >= self.context_tokens or len(prompt) - first >= self._budget:
            raise BudgetSpent(f"{len(prompt) - first} of {self._budget} tokens are used")
        request = _Request(prompt, Future())
        with self._mutex:
            if self._closed:
                raise BudgetSpent("training ends")
            self._unanswered[id(request)] = request
            self._asked.put(request)
        try:
            ids, logprobs = request.reply.result()
        finally:
            with self._mutex:
                del self._unanswered[id(request)]
        stopped = bool(ids) and ids[-1] == self._end
        with self._mutex:
            said = str(self._tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=True))
        reply = Message("assistant", said)
        self._known[session] = first, (*messages, reply), [*prompt, *ids]
        usage = Usage(len(prompt), len(ids), 0, 0.0)
        finish: Literal["stop", "length"] = "stop" if stopped else "length"
        return Completion(reply, finish, "", tuple(prompt), tuple(ids), tuple(logprobs), usage)

    def _prompt(self, messages: tuple[Message, ...], session: str) -> tuple[int, Ids]:
        """(length of the conversation's first prompt, this one): it begins with the very ids before it."""
        if session not in self._known:
            ids = self._ids(self._rendered(messages, begins=True))
            return len(ids), ids
        first, known, ids = self._known[session]
        if messages[: len(known)] != known:
            raise BudgetSpent("its history was rewritten")
        closing = "" if ids[-1] == self._end else END
        more = self._ids(f"{closing}\n{self._rendered(messages[len(known) :], begins=False)}")
        return first, [*ids, *more]

    def _rendered(self, messages: Sequence[Message], *, begins: bool) -> str:
        system = f"{BEGIN}system\n{self._system}{END}\n" if begins and self._system else ""
        if system and messages[0].role == "system":
            system = ""
        told = [f"{BEGIN}{message.role}\n{inert(message.content)}{END}\n" for message in messages]
        return "".join([system, *told, REPLY])

    def _ids(self, text: str) -> Ids:
        with self._mutex:
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many tokens these messages have."""
        return len(self._ids(self._rendered(messages, begins=True)))

    def forget(self) -> None:
        """Forget every conversation; new ones begin."""
        self._known.clear()

    def close(self) -> None:
        """Refuse what waits, and all that comes. Safe to call again."""
        with self._mutex:
            self._closed = True
            for request in self._unanswered.values():
                if not request.reply.done():
                    request.reply.set_exception(BudgetSpent("training ends"))

    def serve(
        self, generate: Generate, running: Callable[[], int], *, patience_s: float, agree: Agree
    ) -> None:
        """Decode what is asked for, until nothing runs here or in any other process.

        Args:
            generate: Decodes one batch.
            running: How many episodes still run here.
            patience_s: How long a batch waits for those that do not ask yet.
            agree: Asked before each batch by every process alike.
        """
        while True:
            batch = self._next_batch(running, patience_s)
            most = agree(len(batch))
            if most == 0:
                if not running():
                    return
                continue
            self._decode(batch, most, generate)

    def _next_batch(self, running: Callable[[], int], patience_s: float) -> list[_Request]:
        batch: list[_Request] = []
        while not batch and running():
            batch = self._waiting(patience_s, 1)
        while batch and len(batch) < running() and (more := self._waiting(patience_s, 1)):
            batch += more
        return batch + self._waiting(0.0, 0)

    def _waiting(self, patience_s: float, at_least: int) -> list[_Request]:
        """Return what is asked for now; waits so long for the first one."""
        found: list[_Request] = []
        while True:
            try:
                found.append(self._asked.get(len(found) < at_least, max(patience_s, _POLL_S)))
            except queue.Empty:
                return found

    def _decode(self, batch: list[_Request], most: int, generate: Generate) -> None:
        filler = batch[0].prompt[:8] if batch else [self._end]
        prompts = [request.prompt for request in batch] + [filler] * (most - len(batch))
        try:
            replies, logprobs = generate(prompts)
        except BaseException as error:
            for request in batch:
                request.reply.set_exception(error)
            raise
        for at, request in enumerate(batch):
            ids = list(replies[at]) or [self._end]
            told = list(logprobs[at]) if logprobs is not None else []
            request.reply.set_result((ids, told if len(told) == len(ids) else []))


def inert(text: str) -> str:
    """Return text in which nothing is a special token: what a program prints must not end a turn."""
    return text.replace("<|", "<\u200b|") if "<|" in text else text


def agreement(trainer: Any) -> Callable[[int], int]:
    """Return an `Agree`: processes decode together, each with as many prompts as the one that has most."""
    accelerator = trainer.accelerator
    if accelerator.num_processes == 1:
        return lambda count: count

    def agree(count: int) -> int:
        import torch

        here = torch.tensor([count], device=accelerator.device)
        return int(accelerator.gather(here).max())

    return agree


class Watchful:
    """Ends an episode in which the policy does the same again and again."""

    def __init__(self, agent: Agent, *, most_repeats: int):
        self._agent, self._most = agent, most_repeats
        self._last: Action | None = None
        self._count = 0
        self.found_loop = False

    @property
    def name(self) -> str:
        return self._agent.name

    def begin(self, task: Task) -> None:
        self._agent.begin(task)
        self._last, self._count, self.found_loop = None, 0, False

    def act(self, seen: Observation) -> Action:
        action = self._agent.act(seen)
        bare = Action(keys=action.keys, command=action.command, submit=action.submit)
        self._count = self._count + 1 if bare == self._last else 1
        self._last = bare
        if self._count >= self._most and not action.submit:
            self.found_loop = True
            return replace(action, submit=True)
        return action


class Rollouts:
    """Plays episodes of one policy after another version of it, on warm sandboxes; closed once, at the end of training.

    Args:
        tasks: Ref → task.
        runtime: Holds their images; closed here.
        tokenizer: Of the policy.
        template: A key of `chat_format.SYSTEMS`.
        context_tokens: That the policy has.
        live: How they are played.
        keep: Told of each trajectory, with its attempt.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        runtime: Runtime,
        tokenizer: Any,
        *,
        template: str,
        context_tokens: int,
        live: Live | None = None,
        keep: Callable[[Trajectory], object] = lambda played: None,
    ):
        self.tasks, self.live = tasks, live or Live()
        self.model = BatchModel(
            tokenizer,
            template=template,
            context_tokens=context_tokens,
            completion_tokens=self.live.completion_tokens,
        )
        self._tokenizer, self._runtime, self._keep = tokenizer, runtime, keep
        self._after = list(tokenizer("\n", add_special_tokens=False)["input_ids"])  # follows a turn's end
        self._pool = WarmPool(runtime, starts=self.live.starts, rows=ROWS, cols=COLS, record=True)
        self._workers = ThreadPoolExecutor(self.live.episodes, thread_name_prefix="tgym-episode")
        self._mutex = threading.Lock()
        self._envs: set[TerminalEnv] = set()
        self._counts: dict[str, int] = {}
        self._closed = False
        atexit.register(self.close)

    def play(
        self, wanted: Sequence[str], generate: Generate, *, agree: Agree = lambda count: count
    ) -> list[Episode]:
        """Play an episode of each task in `wanted`, in parallel; returns them in that order.

        Args:
            wanted: Refs of tasks, repeated for several attempts.
            generate: Decodes for all of them, in this thread.
            agree: With the other processes that decode together.

        Raises:
            BadSetting: A task is none of these, or it is closed.
        """
        if self._closed:
            raise BadSetting("These rollouts are closed. Make new ones.")
        if unknown := [task for task in wanted if task not in self.tasks]:
            raise BadSetting(f"{unknown[0]} is none of the tasks that are learned from.")
        self.model.forget()
        for task in wanted[: self.live.episodes]:
            self._pool.prepare(self.tasks[task])
        playing = [self._workers.submit(self._play, task, self._next(task)) for task in wanted]

        def running() -> int:
            return min(self.live.episodes, sum(not one.done() for one in playing))

        self.model.serve(generate, running, patience_s=self.live.patience_s, agree=agree)
        return [one.result() for one in playing]

    def _next(self, task: str) -> int:
        with self._mutex:
            self._counts[task] = self._counts.get(task, -1) + 1
            return self._counts[task]

    def _play(self, name: str, attempt: int) -> Episode:
        task = self.tasks[name]
        settings = self.live.agent_settings() | ({"room_tokens": 0} if self.live.agent == "terminus" else {})
        agent = Watchful(
            open_agent(self.live.agent, model=self.model, **settings), most_repeats=self.live.most_repeats
        )
        env = TerminalEnv(
            task,
            runtime=self._runtime,
            rows=ROWS,
            cols=COLS,
            record=True,
            max_steps=self.live.max_steps,
            machines=self._pool,
        )
        with self._mutex:
            self._envs.add(env)
        try:
            played = run_episode(env, agent, attempt=attempt)
        except (SandboxError, TaskError) as error:
            played = self._unplayed(task, attempt, f"{type(error).__name__}: {error}")
        finally:
            env.close()
            with self._mutex:
                self._envs.discard(env)
        limit = played.limit or ("a loop" if agent.found_loop else "")
        played = replace(played, model="policy", limit=limit)
        self._keep(played)
        return self._episode(name, played, limit)

    def _unplayed(self, task: Task, attempt: int, reason: str) -> Trajectory:
        return Trajectory(
            task=str(task.ref),
            task_hash=task.content_hash(),
            agent=self.live.agent,
            runtime=self._runtime.name,
            image_digest="",
            attempt=attempt,
            seed=None,
            steps=(),
            outcome=Outcome("broken", None, reason),
            instruction=task.instruction,
        )

    def _episode(self, name: str, played: Trajectory, limit: str) -> Episode:
        contexts = list(chat_format.sampled(played, malformed=True)) if played.turns else []
        if not contexts:  # it never spoke: a trainer wants a token, and learns nothing from it
            return Episode(name, played, list(self._after), list(self._after), [0] * len(self._after),
                           [0.0] * len(self._after), limit or "nothing was said")  # fmt: skip
        context, *others = contexts
        if others:  # a summary, say: the first alone is a row, and an early end of it
            limit = limit or "its history was rewritten"
        begin = int(chat_format.spans(context)[0][0])
        ids, mask = context.ids.tolist(), context.spoken.astype(int).tolist()
        logprobs = context.logprobs.tolist()
        if limit:  # what ends on a turn's end counts as finished: trainers look at the last token
            ids, mask, logprobs = (
                [*ids, *self._after],
                [*mask, *[0] * len(self._after)],
                [*logprobs, *[0.0] * len(self._after)],
            )
        return Episode(name, played, ids[:begin], ids[begin:], mask[begin:], logprobs[begin:], limit)

    def close(self) -> None:
        """Remove every sandbox, and wait for none of the threads that used one. Safe to call again."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self.model.close()
        with self._mutex:
            envs = list(self._envs)
        for env in envs:
            env.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
        self._workers.shutdown(wait=True)
        self._runtime.close()
