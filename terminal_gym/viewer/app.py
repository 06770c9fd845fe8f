"""A read-only page over one run folder, and the JSON it is made of. Starlette; no network but this machine's.

What an agent wrote is inert: it leaves here as JSON, never as markup, and the page's policy forbids scripts and styles
other than the files beside this one. A request names a record by its number, so no path of a request reaches a disk.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from terminal_gym.errors import StoreError, TerminalGymError, UsageError
from terminal_gym.trajectory.asciicast import lines
from terminal_gym.viewer.episode import shown
from terminal_gym.viewer.listing import Listing, Query

# WebAssembly: the player's terminal emulator. It cannot run text as a program, as `unsafe-eval` could.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def viewer(folder: Path | str, *, host: str = "127.0.0.1") -> ASGIApp:
    """Return the application over the run in `folder`.

    Args:
        host: Where it is served; see `is_ours` for the names that requests may use.

    Raises:
        BadSetting: There is no run in this folder.
        StoreError: Its index cannot be read, or is not what was written.
    """
    listing = Listing(folder)

    def api(answer: Callable[[Listing, Request], object]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            try:
                listing.refresh()
                found = answer(listing, request)
            except TerminalGymError as error:
                return _refused(error)
            return found if isinstance(found, Response) else _json(found)

        return endpoint

    routes = [
        Route("/", lambda request: static("index.html")),
        Route("/static/{name:path}", lambda request: static(request.path_params["name"])),
        Route("/api/run", api(lambda run, request: run.summary())),
        Route("/api/attempts", api(lambda run, request: run.attempts(_query(request)))),
        Route("/api/tasks", api(lambda run, request: run.task_rates(_query(request)))),
        Route("/api/episodes/{number:int}", api(_episode)),
        Route("/api/episodes/{number:int}/cast", api(_cast)),
    ]
    return _Guarded(Starlette(routes=routes), host=host)


# ── answers ─────────────────────────────────────────────────────────────────────────────────────


def _query(request: Request) -> Query:
    asked = request.query_params
    try:
        return Query(
            text=asked.get("text", ""),
            status=asked.get("status", ""),
            task=asked.get("task", ""),
            sort=asked.get("sort", ""),
            descending=asked.get("descending") == "true",
            offset=int(asked.get("offset", 0)),
            limit=int(asked.get("limit", 100)),
        )
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"offset and limit are whole numbers: {error}") from error


def _episode(listing: Listing, request: Request) -> object:
    row = listing.row(request.path_params["number"])
    played = listing.run.read(row)
    return shown(played) | {"n": request.path_params["number"], "attempts": listing.attempts_at(row.task)}


def _cast(listing: Listing, request: Request) -> Response:
    played = listing.run.read(listing.row(request.path_params["number"]))
    text = lines(played.frames, rows=played.rows, cols=played.cols)
    stream: Iterator[bytes] = (f"{line}\n".encode(errors="replace") for line in text)
    return StreamingResponse(stream, media_type="application/x-asciicast")


def _json(value: object, status: int = 200) -> Response:
    body = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Response(body, status, media_type="application/json")


def _refused(error: TerminalGymError) -> Response:
    """Say what went wrong: 404 where the request names nothing, 500 where the folder cannot be read."""
    missing = isinstance(error, LookupError)
    status = 404 if missing else 400 if isinstance(error, UsageError) else 500
    advice = " The run folder is damaged." if isinstance(error, StoreError) else ""
    return _json({"error": f"{error}{advice}", "kind": type(error).__name__}, status)


# ── the page's own files ────────────────────────────────────────────────────────────────────────


def static(name: str) -> Response:
    """Return one of the files beside this one; a name is looked up, never joined to a path."""
    body = _files().get(name)
    if body is None:
        return Response("There is no such page.", 404, media_type="text/plain")
    return Response(body, media_type=TYPES.get(name[name.rfind(".") :], "text/plain"))


@cache
def _files() -> dict[str, bytes]:
    return dict(_below(files("terminal_gym.viewer") / "static"))


def _below(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry.read_bytes()


# ── who may ask ─────────────────────────────────────────────────────────────────────────────────


def is_ours(header: str, *, host: str) -> bool:
    """Say whether a Host header may be answered: an IP address, localhost, this machine's name, or `host`.

    A page elsewhere whose name was made to point here (DNS rebinding) comes with that name, and is refused.

    >>> is_ours("127.0.0.1:8000", host="127.0.0.1"), is_ours("evil.example:8000", host="127.0.0.1")
    (True, False)
    """
    name = header.strip().rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header.strip()
    name = name.strip("[]").lower()
    if name in {"localhost", host.lower(), socket.gethostname().lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Guarded:
    """Refuses foreign hosts and other sites, allows reading only, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, *, host: str):
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = {name.encode(): value.encode() for name, value in HEADERS.items()}
                kept = [pair for pair in message["headers"] if pair[0].lower() not in ours]
                message = {**message, "headers": [*kept, *ours.items()]}
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        sent: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            sent.setdefault(name.lower(), []).append(value)
        hosts = [value.decode("latin-1") for value in sent.get(b"host", [])]
        if len(hosts) != 1 or not is_ours(hosts[0], host=self._host):
            return _plain(421, "This viewer answers under its own address only.")
        if sent.get(b"sec-fetch-site", [b"none"])[0] == b"cross-site" and scope["path"] != "/":
            return _plain(403, "Another site may not read this.")
        if scope["method"] not in ("GET", "HEAD"):
            return _plain(405, "This page is for reading only.")
        return None


def _plain(status: int, text: str) -> Response:
    return Response(text, status, media_type="text/plain")


def as_url(host: str, port: int) -> str:
    """Return the address to open in a browser."""
    shown_host: Any = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown_host}:{port}/"
