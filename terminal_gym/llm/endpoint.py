"""Any OpenAI-compatible HTTP endpoint: vLLM, SGLang, llama.cpp, hosted ones.

Token ids and log-probabilities are asked for and kept where the server gives them; one that refuses to be asked is not
asked again. What may pass (429, 5xx, time-outs, broken connections, answers that are none) is tried again, with pauses
that grow, or as long as the server says. The key is read from the environment and appears in no message.

Source: OpenAI's chat completions API; vLLM's `return_token_ids`, `prompt_token_ids` and `token_ids`; `max_model_len` of
vLLM's /v1/models.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from terminal_gym.errors import AccessDenied, BadSetting, ContextFull, ModelRefused, ProviderDown
from terminal_gym.llm.chat import Completion, Sampling, Tool, merged
from terminal_gym.trajectory.dialogue import Finish, Message, ToolCall, Usage

if TYPE_CHECKING:
    import openai

LONGEST_ANSWER = 16 << 20  # bytes; what is longer is no answer
_CONTEXT_TOKENS = 32_768  # where neither the server nor the caller says
_CHARACTERS_A_TOKEN = 3.5  # before the first usage is known; low, so that it rather counts too many
_FULL = (
    "context length",
    "context_length",
    "maximum context",
    "too many tokens",
    "prompt is too long",
    "max_model_len",
)
_EXTRAS = ("return_token_ids", "logprobs")
_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
}


@dataclass(frozen=True)
class Prices:
    """USD per million tokens."""

    prompt: float
    completion: float
    cached: float | None = None  # None: as `prompt`

    def cost_usd(self, usage: Usage) -> float:
        """Return what a call cost."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (
            fresh * self.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.completion
        ) / 1e6


class Endpoint:
    """A model behind HTTP.

    Args:
        model: The model's name there.
        base_url: Where, up to `/v1`; None: OPENAI_BASE_URL, or OpenAI's own.
        api_key_env: Environment variable that holds the key; a server that wants none is asked with "none".
        context_tokens: Of prompt and reply together; None: what /v1/models says, else 32,768.
        temperature: None: the server's default; likewise the others.
        top_p: Nucleus.
        max_tokens: Of one reply.
        seed: Sent with each request.
        timeout_s: For one try.
        tries: Of one request, ≥ 1.
        first_pause_s: Before the second try; doubled each time, up to a minute, and spread by chance.
        prices: USD per million tokens: {"prompt": …, "completion": …, "cached": …}.
        extra_body: More for the request's body.
        sleep: Waits so many seconds.

    Raises:
        BadSetting: A value does not fit, or the `openai` package is missing.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        context_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        timeout_s: float = 600.0,
        tries: int = 6,
        first_pause_s: float = 1.0,
        prices: Mapping[str, float] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        if tries < 1 or timeout_s <= 0:
            raise BadSetting(f"tries is {tries} and timeout_s is {timeout_s}; both must be greater than 0.")
        self.name = f"openai/{model}"
        self._model, self._tries, self._first_pause_s, self._sleep = model, tries, first_pause_s, sleep
        self._sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
        self._prices = _prices(prices)
        self._extra, self._context_tokens = dict(extra_body or {}), context_tokens
        self._key = os.environ.get(api_key_env, "")
        self._client = _client(base_url, self._key or "none", timeout_s)
        self._extras = set(_EXTRAS)
        self._characters_a_token = _CHARACTERS_A_TOKEN
        self._mutex = threading.Lock()

    def __repr__(self) -> str:
        return f"Endpoint({self._model!r}, base_url={str(self._client.base_url)!r})"

    @property
    def context_tokens(self) -> int:
        """Tokens that prompt and reply may have together; asked of the server once."""
        with self._mutex:
            if self._context_tokens is None:
                self._context_tokens = self._asked_length() or _CONTEXT_TOKENS
            return self._context_tokens

    def _asked_length(self) -> int:
        with contextlib.suppress(Exception):  # a server that cannot say is not at fault
            for entry in self._client.models.list():
                if entry.id == self._model:
                    return int(getattr(entry, "max_model_len", 0) or 0)
        return 0

    def complete(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        tools: Sequence[Tool] = (),
        session: str = "",
    ) -> Completion:
        """Return the model's next message; see `ChatModel`."""
        body = self._body(messages, merged(self._sampling, sampling), tools)
        reason, wait_s = "", 0.0
        for number in range(self._tries):
            if number:
                self._sleep(self._pause_s(number, wait_s))
            told = self._asked(body)
            if isinstance(told, Completion):
                self._learn(messages, told)
                return told
            reason, wait_s = told
        advice = "Look at the server; a run goes on with `tgym rollout --resume`."
        raise ProviderDown(f"{self.name} gave no answer in {self._tries} tries: {reason} {advice}")

    def _asked(self, body: dict[str, Any]) -> Completion | tuple[str, float]:
        """Ask once; returns (why there is no answer, seconds that the server wants to be left alone)."""
        import openai

        try:
            return self._completion(self._sent(body))
        except openai.APIStatusError as error:
            return self._refused(error, body)
        except (openai.APIError, OSError, ValueError) as error:
            return self._clean(f"{type(error).__name__}: {error}."), 0.0

    def _sent(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send the request; returns the answer's JSON."""
        extras = {name: True for name in _EXTRAS if name in self._extras}
        request = self._client.chat.completions.with_streaming_response.create(
            **{name: value for name, value in body.items() if name in ("messages", "model")},
            extra_body={name: value for name, value in body.items() if name not in ("messages", "model")}
            | extras,
        )
        with request as response:
            answer = _bounded(response.iter_bytes())
        try:
            read = json.loads(answer)
        except RecursionError:
            raise ValueError("an answer nested too deep") from None
        if not isinstance(read, dict):
            raise ValueError("an answer that is no object")
        return read

    def _refused(self, error: openai.APIStatusError, body: dict[str, Any]) -> Completion | tuple[str, float]:
        said = self._clean(str(error.message))
        if error.status_code in (408, 409, 425, 429) or error.status_code >= 500:
            return f"{error.status_code}: {said}", _wait_s(error.response.headers.get("retry-after", ""))
        if any(words in said.lower() for words in _FULL) or error.status_code == 413:
            raise ContextFull(f"{self.name}: {said}") from None
        if error.status_code in (400, 422) and (unknown := [name for name in self._extras if name in said]):
            self._extras -= set(unknown)  # it does not know these; without them it may answer
            return self._asked(body)
        if "content_filter" in said or "content management policy" in said:
            raise ModelRefused(f"{self.name}: {said}") from None
        advice = "Look at the key, the model's name, and the request."
        raise AccessDenied(f"{self.name} refuses with {error.status_code}: {said} {advice}") from None

    def _body(self, messages: Sequence[Message], sampling: Sampling, tools: Sequence[Tool]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "messages": [_as_sent(message) for message in messages]}
        body |= {name: value for name, value in asdict(sampling).items() if value is not None}
        if tools:
            body["tools"] = [{"type": "function", "function": asdict(tool)} for tool in tools]
        return body | self._extra

    def _completion(self, answer: Mapping[str, Any]) -> Completion:
        """Read an answer; a ValueError says that it is none."""
        try:
            choice = answer["choices"][0]
            message = choice["message"]
            finish = _FINISHES.get(choice.get("finish_reason") or "stop", "stop")
            if message.get("refusal"):
                finish = "refusal"
            calls = tuple(_call(call) for call in message.get("tool_calls") or ())
            text = message.get("content")
            if text is None and not calls and finish not in ("refusal", "length"):
                raise ValueError("an answer without content")
            logprobs = (choice.get("logprobs") or {}).get("content") or ()
            completion = Completion(
                Message("assistant", _clean_text(text or ""), calls),
                finish,
                _clean_text(message.get("reasoning_content") or message.get("reasoning") or ""),
                tuple(map(int, answer.get("prompt_token_ids") or ())),
                tuple(map(int, choice.get("token_ids") or ())),
                tuple(float(entry["logprob"]) for entry in logprobs),
                self._usage(answer.get("usage") or {}),
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"an answer of another form: {error!r}") from error
        if finish == "refusal":
            raise ModelRefused(f"{self.name} will not answer: {completion.message.content[:200]}")
        return completion

    def _usage(self, told: Mapping[str, Any]) -> Usage:
        usage = Usage(
            int(told.get("prompt_tokens") or 0),
            int(told.get("completion_tokens") or 0),
            int((told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
        )
        return replace(usage, cost_usd=self._prices.cost_usd(usage)) if self._prices else usage

    def _pause_s(self, number: int, wait_s: float) -> float:
        """Return how long to wait before another try: as the server says, else longer each time, spread by chance."""
        pause_s = min(60.0, self._first_pause_s * 2.0 ** (number - 1))
        return max(wait_s, pause_s * random.uniform(0.5, 1.0)) + (
            random.uniform(0, 0.1 * wait_s) if wait_s else 0.0
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return an estimate: characters, by how many made a token in the calls so far."""
        return int(_characters(messages) / self._characters_a_token) + 8 * len(messages)

    def _learn(self, messages: Sequence[Message], told: Completion) -> None:
        characters, tokens = _characters(messages), told.usage.prompt_tokens
        if characters > 2_000 and tokens > 0:
            self._characters_a_token = min(8.0, max(1.0, characters / tokens))

    def _clean(self, text: str) -> str:
        """Return `text` without the key, which some servers repeat."""
        return _clean_text(text.replace(self._key, "<key>") if self._key else text)[:1_000]

    def close(self) -> None:
        """Close its connections. Safe to call again."""
        self._client.close()


def _client(base_url: str | None, key: str, timeout_s: float) -> openai.OpenAI:
    try:
        import openai
    except ImportError as error:
        raise BadSetting("The package 'openai' is missing. pip install 'terminal-gym[llm]'") from error
    return openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout_s, max_retries=0)


def _bounded(chunks: Iterator[bytes]) -> bytes:
    """Return the whole body; a ValueError says that it is too long, an OSError that it broke off."""
    body = bytearray()
    while True:
        try:
            chunk = next(chunks, b"")
        except Exception as error:  # of the HTTP package, which differs between releases of openai
            raise ConnectionError(f"the answer broke off: {error}") from error
        if not chunk:
            return bytes(body)
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise ValueError(f"an answer of more than {LONGEST_ANSWER} bytes")


def _prices(given: Mapping[str, float] | None) -> Prices | None:
    if given is None:
        return None
    try:
        return Prices(**given)
    except TypeError:
        raise BadSetting(
            f"prices is {dict(given)}; give prompt, completion, and cached if you like."
        ) from None


def _as_sent(message: Message) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        sent["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        sent["tool_call_id"] = message.tool_call_id
    return sent


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = call["function"]
    return ToolCall(
        str(call.get("id") or ""), str(function["name"]), _clean_text(function.get("arguments") or "")
    )


def _wait_s(header: str) -> float:
    try:
        return min(600.0, max(0.0, float(header)))
    except ValueError:
        return 0.0


def _clean_text(text: str) -> str:
    """Return `text` with lone surrogates replaced: they can be neither stored nor sent."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _characters(messages: Sequence[Message]) -> int:
    return sum(
        len(message.content) + sum(len(call.arguments) for call in message.tool_calls) for message in messages
    )
