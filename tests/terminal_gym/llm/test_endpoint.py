"""The endpoint against a real server: what it keeps, what it tries again, and what it refuses to repeat."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kit.chat_server import ChatServer, Fault, Request, Said

from terminal_gym.errors import (
    AccessDenied,
    BadSetting,
    ContextFull,
    ModelError,
    ModelRefused,
    ProviderDown,
    UnknownName,
)
from terminal_gym.llm.chat import Sampling, Tool, open_model
from terminal_gym.llm.endpoint import LONGEST_ANSWER, Endpoint
from terminal_gym.trajectory.dialogue import Message, ToolCall, Usage

HELLO = [Message("user", "hello")]
KEY = "sk-very-secret-4711"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


class Asked:
    """A server and an endpoint to it; its pauses are counted, not slept."""

    def __init__(self, script: Any, **settings: Any):
        self.pauses: list[float] = []
        self.server = ChatServer(script, context=settings.pop("context", 0))
        settings = {"timeout_s": 20.0, "sleep": self.pauses.append} | settings
        self.model = Endpoint("tiny", base_url=self.server.url, **settings)

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.model.close()
        self.server.close()


def test_what_is_sent_and_what_is_kept() -> None:
    said = Said(
        "hi",
        prompt_ids=(1, 2),
        output_ids=(3, 4),
        logprobs=(-0.5, -0.25),
        cached_tokens=4,
        reasoning="thinks",
    )
    with Asked([said], prices={"prompt": 1.0, "completion": 10.0, "cached": 0.5}, temperature=0.7) as asked:
        told = asked.model.complete(HELLO, sampling=Sampling(max_tokens=9))
        (request,) = asked.server.requests
    assert told.message == Message("assistant", "hi")
    assert (told.prompt_ids, told.output_ids, told.logprobs) == ((1, 2), (3, 4), (-0.5, -0.25))
    assert told.reasoning == "thinks"
    assert told.usage == Usage(10, 5, 4, pytest.approx((6 * 1.0 + 4 * 0.5 + 5 * 10.0) / 1e6))
    assert request["messages"] == [{"role": "user", "content": "hello"}]
    assert (request["temperature"], request["max_tokens"]) == (0.7, 9)
    assert request["authorization"] == f"Bearer {KEY}"
    assert not asked.pauses


def test_a_server_that_tells_no_ids() -> None:
    with Asked(["hi"]) as asked:
        told = asked.model.complete(HELLO)
    assert (told.prompt_ids, told.output_ids, told.logprobs) == ((), (), ())
    assert told.usage.cost_usd is None


def test_a_server_that_refuses_to_be_asked_for_ids_is_not_asked_again() -> None:
    def script(request: Request) -> Said | Fault:
        for name in ("return_token_ids", "logprobs"):
            if name in request:
                return Fault(400, json.dumps({"error": {"message": f"Unknown field: {name}"}}).encode())
        return Said("hi")

    with Asked(script, tries=1) as asked:
        assert asked.model.complete(HELLO).message.content == "hi"
        assert asked.model.complete(HELLO).message.content == "hi"
        assert len(asked.server.requests) == 4


def test_native_tools_both_ways() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    tool = Tool("bash", "Runs a command.", {"type": "object", "properties": {"command": {"type": "string"}}})
    with Asked([Said(None, finish="tool_calls", tool_calls=[call])]) as asked:
        told = asked.model.complete(HELLO, tools=[tool])
        asked.model.complete([*HELLO, told.message, Message("tool", "a b", tool_call_id="c1")])
        first, second = asked.server.requests
    assert told.finish == "tool_calls"
    assert told.message.tool_calls == (ToolCall("c1", "bash", '{"command": "ls"}'),)
    assert first["tools"][0]["function"]["name"] == "bash"
    assert second["messages"][1]["tool_calls"] == [call]
    assert second["messages"][2] == {"role": "tool", "content": "a b", "tool_call_id": "c1"}


# ── what may pass ───────────────────────────────────────────────────────────────────────────────

HTML = b"<html><body>502 Bad Gateway</body></html>"
PASSING = {
    "429": Fault(429, b'{"error": {"message": "slow down"}}'),
    "500": Fault(500, b"oops"),
    "503 html": Fault(503, HTML, {"Content-Type": "text/html"}),
    "reset": Fault(how="reset"),
    "cut": Fault(200, b'{"choices": [', how="cut"),
    "empty": Fault(200, b""),
    "html": Fault(200, HTML, {"Content-Type": "text/html"}),
    "no json": Fault(200, b'{"choices": [{"mess'),
    "bad utf-8": Fault(200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "no object": Fault(200, b"[1, 2]"),
    "no choices": Fault(200, b'{"choices": []}'),
    "null choices": Fault(200, b'{"choices": null}'),
    "null content": Said(None),
    "no message": Fault(200, b'{"choices": [{}]}'),
    "nested without end": Fault(200, b"[" * 200_000),
    "odd numbers": Fault(
        200, b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}'
    ),
    "too long": Fault(200, b" " * (LONGEST_ANSWER + 1)),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(fault: Fault | Said) -> None:
    with Asked([fault, fault, "hi"]) as asked:
        assert asked.model.complete(HELLO).message.content == "hi"
        assert len(asked.server.requests) == 3
    assert len(asked.pauses) == 2
    assert 0 < asked.pauses[0] <= 1.0 < 2.0 + asked.pauses[1]


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_does_not_pass_is_given_up_in_the_end(fault: Fault | Said) -> None:
    with Asked([fault], tries=3) as asked:
        with pytest.raises(ProviderDown, match="gave no answer in 3 tries"):
            asked.model.complete(HELLO)
        assert len(asked.server.requests) == 3


def test_the_servers_wish_is_honoured() -> None:
    with Asked([Fault(429, b"{}", {"Retry-After": "17"}), "hi"]) as asked:
        asked.model.complete(HELLO)
    assert 17.0 <= asked.pauses[0] <= 20.0


def test_a_server_that_hangs() -> None:
    with Asked([Fault(how="hang"), "hi"], timeout_s=0.3) as asked:
        assert asked.model.complete(HELLO).message.content == "hi"


def test_a_server_that_is_not_there() -> None:
    with Asked(["hi"]) as asked:
        asked.server.close()
        with pytest.raises(ProviderDown):
            asked.model.complete(HELLO)


# ── what does not ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (401, "Incorrect API key provided: sk-very-secret-4711", AccessDenied),
        (403, "no", AccessDenied),
        (404, "The model `tiny` does not exist", AccessDenied),
        (400, "temperature must be at most 2", AccessDenied),
        (
            400,
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            ContextFull,
        ),
        (
            400,
            "The decoder prompt (length 50) is longer than the maximum model length: max_model_len",
            ContextFull,
        ),
        (413, "too large", ContextFull),
        (400, "The response was filtered: content management policy", ModelRefused),
    ],
)
def test_what_is_not_tried_again(status: int, said: str, error: type[Exception]) -> None:
    with Asked([Fault(status, json.dumps({"error": {"message": said}}).encode())]) as asked:
        with pytest.raises(error) as caught:
            asked.model.complete(HELLO)
        assert len(asked.server.requests) == 1
    assert not asked.pauses
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "said",
    [Said("I cannot", more={"refusal": "I cannot help with that"}), Said(None, finish="content_filter")],
)
def test_a_refusal(said: Said) -> None:
    with Asked([said]) as asked, pytest.raises(ModelRefused):
        asked.model.complete(HELLO)


def test_the_key_is_nowhere() -> None:
    with Asked([Fault(500, f"your key {KEY} is fine".encode())], tries=1) as asked:
        with pytest.raises(ModelError) as caught:
            asked.model.complete(HELLO)
        assert KEY not in repr(asked.model)
    assert KEY not in str(caught.value)


# ── the rest ────────────────────────────────────────────────────────────────────────────────────


def test_a_reply_that_ends_too_early_is_told() -> None:
    with Asked([Said("half a re", finish="length")]) as asked:
        assert asked.model.complete(HELLO).finish == "length"


def test_lone_surrogates_are_replaced() -> None:
    with Asked([Fault(200, b'{"choices": [{"message": {"content": "a\\ud800b"}}]}')]) as asked:
        assert asked.model.complete(HELLO).message.content == "a?b"


@pytest.mark.parametrize(
    ("context", "setting", "known"), [(4096, None, 4096), (0, None, 32768), (4096, 100, 100)]
)
def test_the_length_of_the_context(context: int, setting: int | None, known: int) -> None:
    with Asked(["hi"], context=context, context_tokens=setting) as asked:
        assert asked.model.context_tokens == known


def test_the_estimate_learns() -> None:
    text = [Message("user", "x" * 10_000)]
    with Asked([Said("hi", prompt_tokens=5_000)]) as asked:
        before = asked.model.count_tokens(text)
        asked.model.complete(text)
        assert before < 3_000
        assert 5_000 <= asked.model.count_tokens(text) < 5_100


def test_many_threads() -> None:
    def script(request: Request) -> Said:
        return Said(request["messages"][0]["content"].upper())

    with Asked(script) as asked, ThreadPoolExecutor(16) as pool:
        texts = [f"text {number}" for number in range(64)]
        told = pool.map(lambda text: asked.model.complete([Message("user", text)]).message.content, texts)
        assert list(told) == [text.upper() for text in texts]


def test_by_name() -> None:
    model = open_model("openai/org/some-model", base_url="http://127.0.0.1:9/v1")
    assert model.name == "openai/org/some-model"
    model.close()
    model.close()


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("opnai/x", {}, UnknownName),
        ("openai", {}, BadSetting),
        ("openai/x", {"colour": "red"}, BadSetting),
        ("openai/x", {"tries": 0}, BadSetting),
        ("openai/x", {"prices": {"prmpt": 1}}, BadSetting),
    ],
)
def test_wrong_settings(name: str, settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        open_model(name, **settings)
