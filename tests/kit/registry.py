"""A registry on 127.0.0.1 that images can be pulled from: the read side of the OCI distribution API, over plain HTTP.

Source: OCI distribution specification 1.1, pull; OCI image specification 1.1. An Engine takes 127.0.0.0/8 as insecure.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Registry:
    """Holds images of one layer, and tells what it was asked for."""

    def __init__(self) -> None:
        self._blobs: dict[str, tuple[str, bytes]] = {}  # digest → media type, bytes
        self._tags: dict[str, str] = {}  # "repository:tag" → digest
        self.asked: list[str] = []
        self.tickets: threading.Semaphore | None = None  # one for each layer that may be given out; None: all
        self.mutex = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.registry = self  # type: ignore[attr-defined]
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def add(self, repository: str, tag: str, files: dict[str, bytes]) -> str:
        """Put an image of these files there; returns the digest of its manifest."""
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        layer = gzip.compress(raw.getvalue(), mtime=0)
        plain = hashlib.sha256(raw.getvalue()).hexdigest()
        config = json.dumps(
            {
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain}"]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": self._kept(_CONFIG, config),
                "layers": [self._kept(_LAYER, layer)],
            }
        ).encode()
        digest = str(self._kept(_MANIFEST, manifest)["digest"])
        self._tags[f"{repository}:{tag}"] = digest
        return digest

    def manifests(self) -> set[str]:
        """Return the digests whose manifests were asked for."""
        with self.mutex:
            paths = [line.partition(" ")[2] for line in self.asked if "/manifests/" in line]
        return {path.rpartition("/")[2] for path in paths}

    def _kept(self, kind: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._blobs[digest] = (kind, data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def found(self, path: str) -> tuple[str, str, bytes] | None:
        """(media type, digest, bytes) of what a path of the API names"""
        repository, _, rest = path.removeprefix("/v2/").rpartition("/manifests/")
        digest = self._tags.get(f"{repository}:{rest}", rest) if repository else path.rpartition("/")[2]
        return (self._blobs[digest][0], digest, self._blobs[digest][1]) if digest in self._blobs else None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    @property
    def registry(self) -> Registry:
        return self.server.registry  # type: ignore[attr-defined,no-any-return]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        with self.registry.mutex:
            self.registry.asked.append(f"{self.command} {self.path}")
        if self.path.rstrip("/") == "/v2":
            self._send(200, "application/json", b"{}")
        elif (found := self.registry.found(self.path)) is None:
            self._send(404, "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        elif found[0] == _LAYER:
            if self.registry.tickets is not None:
                self.registry.tickets.acquire(timeout=60)
            self._send(200, found[0], found[2], digest=found[1])
        else:
            self._send(200, found[0], found[2], digest=found[1])

    def _send(self, status: int, kind: str, body: bytes, *, digest: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
