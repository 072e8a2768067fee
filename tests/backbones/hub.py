"""A stand-in for a hub and a file server, on this machine: it answers what their clients ask, and counts it.

As on the hub, weights are LFS files, whose ETag is their SHA-256, and other files have git's SHA-1 of a blob.
"""

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
    """A repository: files by name, the names of its one revision, and those files that only some may read.

    Attributes
    ----------
    tokens : set of str
        Tokens with access to the gated files.
    refusal : str
        What the hub says to others.
    """

    files: dict[str, bytes]
    gated: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    refusal: str = ""
    sha: str = "3" * 40
    revisions: tuple[str, ...] = ("main", "3" * 40)


@dataclass
class Hub:
    """Repositories by id, plain files by path, and what was asked.

    Attributes
    ----------
    newer : dict of str to Repository
        A second commit of a repository, by its id.
    cut : dict of str to int
        After how many bytes of a file (by the end of its path) the connection ends, once.
    down : bool
        Whether no file can be read.
    lost : list of int
        HTTP status of the next requests of a part, each once.
    changed : dict of str to bytes
        What is sent instead of a file of a repository.
    moved : dict of str to str
        Address to which the hub redirects for a file of a repository.
    accounts : set of str
        Valid tokens.
    ranges : bool
        Whether it can send a part of a file.
    asked, parts : list of str
        Requests, and those of parts with their range.
    authorized : list of str
        Paths that were asked for with a token.
    """

    address: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    newer: dict[str, Repository] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    down: bool = False
    lost: list[int] = field(default_factory=list)
    changed: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=set)
    ranges: bool = True
    asked: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    authorized: list[str] = field(default_factory=list)

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


def _entry(name: str, content: bytes) -> dict[str, Any]:
    """A file in the listing of a repository."""
    entry = {"type": "file", "path": name, "size": len(content)}
    if not name.endswith((".safetensors", ".bin")):
        return entry | {"oid": hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()}
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry | {"oid": "0" * 40, "lfs": lfs}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    token = ""

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, send: bool) -> None:
        hub, path = self.hub, unquote(self.path)
        hub.asked.append(f"{self.command} {path}")
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.token:
            hub.authorized.append(path)
        if self.token and self.token not in hub.accounts:
            self._refuse(401, "", f"Invalid credentials in Authorization header: {self.token}")
        elif path in hub.files:
            self._file(hub.files[path], {}, send)
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
        newer = self.hub.newer.get(name)
        one = newer if newer and revision in newer.revisions else self.hub.repositories.get(name)
        if one is None:
            self._refuse(401, "RepoNotFound")
        elif revision not in one.revisions:
            self._refuse(404, "RevisionNotFound")
        elif file is None:
            listed = [_entry(n, c) for n, c in one.files.items()]
            about = listed if tree else {"id": name, "sha": one.sha}
            self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"}, send)
        elif file in one.gated and self.token not in one.tokens:
            self._refuse(403 if self.token else 401, "GatedRepo", one.refusal)
        elif file not in one.files:
            self._refuse(404, "EntryNotFound")
        else:
            content, entry = one.files[file], _entry(file, one.files[file])
            tag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
            headers = {"ETag": f'"{tag}"', "X-Repo-Commit": one.sha}
            if file in self.hub.moved:
                headers |= {"X-Linked-ETag": f'"{tag}"', "X-Linked-Size": str(len(content))}
                self._send(302, b"", headers | {"Location": self.hub.moved[file]}, send)
                return
            self._file(self.hub.changed.get(file, content), headers, send)

    def _file(self, content: bytes, headers: dict[str, str], send: bool) -> None:
        """Send a file, or the part that was asked for."""
        hub, asked = self.hub, self.headers.get("Range", "")
        if hub.down and send:
            self._refuse(503, "")
        elif asked and hub.ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            hub.parts.append(f"{unquote(self.path)} {asked}")
            if hub.lost:
                self._refuse(hub.lost.pop(0), "")
            elif start >= len(content):
                self._refuse(416, "")
            else:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self._send(206, content[start:], headers, send)
        else:
            self._send(200, content, headers, send)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message}, send=False)

    def _send(self, status: int, content: bytes, headers: dict[str, str], send: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if send:
            path = unquote(self.path)
            end = next((self.hub.cut.pop(name) for name in list(self.hub.cut) if path.endswith(name)), None)
            self.wfile.write(content[:end])
