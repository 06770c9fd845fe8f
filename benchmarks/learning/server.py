"""A local OpenAI-compatible server for one speaker: the teacher, or a tiny student, in this process.

Only what `terminal_gym.llm.endpoint` asks for: chat completions without streaming, token ids and log-probabilities
beside the text, and the model's length. Source: OpenAI's chat completions API; vLLM's `return_token_ids`.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol


@dataclass(frozen=True)
class Said:
    """One reply."""

    text: str
    finish: str = "stop"  # or "length"
    prompt_ids: Sequence[int] = ()
    ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()


class TooLong(ValueError):
    """The conversation does not fit the speaker's context."""


class Speaker(Protocol):
    """Answers conversations; asked from many threads at once."""

    @property
    def context_tokens(self) -> int: ...

    def say(self, messages: Sequence[dict[str, str]], *, temperature: float, max_tokens: int) -> Said:
        """Return the next message.

        Raises:
            TooLong: There is no room for a reply.
        """
        ...


@contextlib.contextmanager
def serving(speaker: Speaker, name: str) -> Iterator[str]:
    """Serve `speaker` as the model `name` while the block runs; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(
                200, {"data": [{"id": name, "object": "model", "max_model_len": speaker.context_tokens}]}
            )

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                said = speaker.say(
                    asked["messages"],
                    temperature=float(asked.get("temperature") or 0.0),
                    max_tokens=int(asked.get("max_tokens") or 64),
                )
            except TooLong as error:
                self._answer(400, {"error": {"message": f"maximum context length exceeded: {error}"}})
                return
            self._answer(200, _completion(name, said))

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _completion(name: str, said: Said) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": said.text},
        "finish_reason": said.finish,
    }
    if said.ids:
        choice["token_ids"] = list(said.ids)
        choice["logprobs"] = {"content": [{"token": "", "logprob": value} for value in said.logprobs]}
    return {
        "id": "local",
        "object": "chat.completion",
        "created": 0,
        "model": name,
        "choices": [choice],
        "prompt_token_ids": list(said.prompt_ids),
        "usage": {"prompt_tokens": len(said.prompt_ids), "completion_tokens": len(said.ids)},
    }
