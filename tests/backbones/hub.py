"""A stand-in for a hub and a file server, on this machine: it answers what their clients ask, and counts it."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class Repository:
    """A repository: files by name, the names of its one revision, and those files that only some may read."""

    files: dict[str, bytes]
    gated: set[str] = field(default_factory=set)
    sha: str = "3" * 40
    revisions: tuple[str, ...] = ("main", "3" * 40)


@dataclass
class Hub:
    """Repositories by id, plain files by path, and what was asked.

    Attributes
    ----------
    cut : set of str
        Plain files of which half is sent before the connection ends.
    """

    address: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def reads(self) -> list[str]:
        """Names of the files of repositories that were sent, sorted."""
        found = (path.partition("/resolve/")[2].partition("/")[2] for path in self.asked if path.startswith("GET "))
        return sorted(name for name in found if name)


@contextmanager
def serve() -> Iterator[Hub]:
    """Run the server until the end of the block."""
    handler: Any = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False  # all are awaited at the end
    hub = handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, send: bool) -> None:
        hub, path = self.hub, unquote(self.path)
        hub.asked.append(f"{self.command} {path}")
        if path in hub.files:
            content = hub.files[path]
            self._send(200, content[: len(content) // 2] if path in hub.cut else content, {}, send, len(content))
        elif path.startswith("/api/models/") and "/tree/" in path:
            name, _, revision = path.removeprefix("/api/models/").partition("?")[0].partition("/tree/")
            self._repository(name, revision, None, send, tree=True)
        elif path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self._repository(name, revision, None, send)
        else:
            name, _, rest = path[1:].partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._repository(name, revision, file, send)

    def _repository(self, name: str, revision: str, file: str | None, send: bool, tree: bool = False) -> None:
        one = self.hub.repositories.get(name)
        if one is None:
            self._refuse(401, "RepoNotFound")
        elif revision not in one.revisions:
            self._refuse(404, "RevisionNotFound")
        elif file is None:
            listed = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in one.files.items()]
            about = listed if tree else {"id": name, "sha": one.sha}
            self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"}, send)
        elif file in one.gated:
            self._refuse(403, "GatedRepo")
        elif file not in one.files:
            self._refuse(404, "EntryNotFound")
        else:
            content = one.files[file]
            tag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": one.sha}, send)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code}, send=False)

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], send: bool, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if send:
            self.wfile.write(content)
