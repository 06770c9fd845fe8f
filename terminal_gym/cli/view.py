"""`tgym view`: a run folder in the browser."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from terminal_gym.cli.report import complain, say, show
from terminal_gym.errors import BadSetting


def view(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, also while it is written to.")],
    host: Annotated[str, typer.Option(help="Where to listen; anything but loopback shows it to others.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    open_: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            help="Open a browser; by default where there is a desktop.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve a read-only page over a run: attempts, charts, and each episode's terminal beside what the model said."""
    try:
        import uvicorn

        from terminal_gym.viewer.app import as_url, viewer
    except ModuleNotFoundError as error:
        advice = "pip install 'terminal-gym[viewer]'"
        raise BadSetting(f"The viewer needs the package {error.name!r}. {advice}") from error
    app = viewer(run, host=host)
    with contextlib.closing(_listening(host, port)) as listener:
        url = as_url(host, listener.getsockname()[1])
        if not _is_loopback(host):
            complain(f"Everyone who reaches {host} can read this run: there is no password.")
        show(url)
        say("Ctrl-C ends it.")
        sys.stdout.flush()
        if _has_desktop() if open_ is None else open_:
            webbrowser.open(url)
        settings = uvicorn.Config(app, log_level="warning", lifespan="off", ws="none", server_header=False)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        advice = "Choose another --port, or 0 for any that is free."
        raise BadSetting(
            f"{host}:{port} cannot be listened on: {error.strerror or error}. {advice}"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_desktop() -> bool:
    """A browser of the terminal itself would take this terminal away."""
    return sys.stdout.isatty() and (
        sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    )
