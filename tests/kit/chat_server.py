"""A real OpenAI-compatible server on 127.0.0.1, scripted by the test: replies as vLLM gives them, and faults."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Said:
    """A reply."""

    content: str | None = ""
    finish: str = "stop"
    tool_calls: Sequence[Mapping[str, Any]] = ()  # as the API has them
    prompt_ids: Sequence[int] = ()  # given only where `return_token_ids` was asked for
    output_ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()  # given only where `logprobs` was asked for
    prompt_tokens: int = 10
    completion_tokens: int = 5
    cached_tokens: int = 0
    reasoning: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)  # put into the message


@dataclass(frozen=True)
class Fault:
    """An answer that is none: a status and a raw body, or a connection that ends or never does."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    how: str = "answer"  # answer | reset | hang | cut: fewer bytes than promised


Request = dict[str, Any]  # the body, and "authorization"
Script = Callable[[Request], Said | Fault]


class ChatServer:
    """Answers each request with what `script` says; a sequence is said one after the other, its last for ever."""

    def __init__(
        self, script: Script | Sequence[Said | Fault | str], *, model: str = "tiny", context: int = 0
    ):
        self._script = script if callable(script) else _one_by_one(script)
        self.model, self.context = model, context
        self.requests: list[Request] = []
        self.released = threading.Event()  # hanging answers wait for it
        self._mutex = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.chat = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request: Request) -> Said | Fault:
        with self._mutex:
            self.requests.append(request)
            return self._script(request)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _one_by_one(replies: Sequence[Said | Fault | str]) -> Script:
    left = iter(replies)
    last = [replies[-1]]

    def script(request: Request) -> Said | Fault:
        reply = next(left, last[0])
        return Said(reply) if isinstance(reply, str) else reply

    return script


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    @property
    def chat(self) -> ChatServer:
        return self.server.chat  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        entry = {"id": self.chat.model, "object": "model"}
        if self.chat.context:
            entry |= {"max_model_len": self.chat.context}  # type: ignore[dict-item]
        self._send(200, json.dumps({"object": "list", "data": [entry]}).encode(), {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body["authorization"] = self.headers.get("Authorization", "")
        reply = self.chat.answer(body)
        if isinstance(reply, Fault):
            self._fail(reply)
        else:
            self._send(200, json.dumps(_completion(reply, body)).encode(), {})

    def _fail(self, fault: Fault) -> None:
        if fault.how == "hang":
            self.chat.released.wait(60)
        if fault.how in ("reset", "hang"):
            linger = struct.pack("ii", 1, 0)  # close with a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        self._send(fault.status, fault.body, fault.headers, missing=100 if fault.how == "cut" else 0)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, missing: int = 0) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            return
        if missing:
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            return


def _completion(said: Said, asked: Request) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.content, **said.more}
    if said.tool_calls:
        message["tool_calls"] = list(said.tool_calls)
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": said.finish}
    answer: dict[str, Any] = {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 0,
        "model": asked.get("model", ""),
        "choices": [choice],
        "usage": {
            "prompt_tokens": said.prompt_tokens,
            "completion_tokens": said.completion_tokens,
            "total_tokens": said.prompt_tokens + said.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": said.cached_tokens},
        },
    }
    if asked.get("return_token_ids"):
        answer["prompt_token_ids"], choice["token_ids"] = list(said.prompt_ids), list(said.output_ids)
    if asked.get("logprobs"):
        choice["logprobs"] = {"content": [{"token": "?", "logprob": value} for value in said.logprobs]}
    return answer
