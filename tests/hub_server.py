"""A server that speaks as the Hugging Face Hub does, with switches for what goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

LARGE = (".onnx", ".safetensors", ".bin")  # kept with Git LFS: redirected, named by SHA-256


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer that holds a file."""

    cut: int | None = None  # bytes after which the connection ends
    status: int | None = None
    wrong: bool = False  # as many bytes, but others
    whole: bool = False  # the Range header is ignored
    hold: threading.Event | None = None  # waited for after `cut` bytes, or after all


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    range: str | None
    token: str | None = None


@dataclass
class Hub:
    """What the server holds, what it was asked, what it will do wrong.

    Attributes:
        repos: ``{repo: {commit: {file: bytes}}}``.
        branches: ``{repo: commit}`` of main.
        asked: Requests so far.
        faults: Used up by answers that hold a file, first to last.
        always: Used when `faults` is empty.
        api_statuses: Used up by requests to the API; 200 is fine.
    """

    url: str = ""
    elsewhere: str = ""  # the host that large files are redirected to
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    always: Fault = Fault()
    api_statuses: list[int] = field(default_factory=list)
    lies: dict[str, str] = field(default_factory=dict)  # file to the SHA-256 that is stated of it

    def add(self, repo: str, files: Mapping[str, bytes]) -> str:
        """Commit files on top of main; the commit."""
        before = self.repos.get(repo, {}).get(self.branches.get(repo, ""), {})
        content = {**before, **files}
        digest = hashlib.sha1(repr(sorted(content.items())).encode(), usedforsecurity=False)
        commit = digest.hexdigest()
        self.repos.setdefault(repo, {})[commit] = content
        self.branches[repo] = commit
        return commit

    def resolve(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.branches.get(repo, "") if revision == "main" else revision
        files = self.repos.get(repo, {}).get(commit)
        return None if files is None else (commit, files)

    def fetched(self, name: str) -> list[str | None]:
        """The Range headers of requests for the bytes of a file."""
        suffixes = {f"/{name}"} | {
            f"/cdn/{sha256(files[name])}"
            for commits in self.repos.values()
            for files in commits.values()
            if name in files and name.endswith(LARGE)
        }
        suffixes = {s for s in suffixes if s.startswith("/cdn/")} or suffixes
        return [a.range for a in self.asked if a.method == "GET" and a.path.endswith(tuple(suffixes))]


def sha256(data: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def git_id(data: bytes) -> str:
    """What git calls bytes."""
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(
            Asked(self.command, path, self.headers.get("Range"), self.headers.get("Authorization"))
        )
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            self._api("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        elif parts[0] == "cdn":
            self._bytes(self._by_digest(parts[1]), {})
        else:
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _api(self, repo: str, revision: str) -> None:
        status = self.hub.api_statuses.pop(0) if self.hub.api_statuses else 200
        found = self.hub.resolve(repo, revision)
        if status != 200 or found is None:
            self._send(status if status != 200 else 404, {}, b"{}")
            return
        commit, files = found
        siblings = [self._sibling(name, data) for name, data in files.items()]
        self._json({"_id": "1", "id": repo, "modelId": repo, "sha": commit, "siblings": siblings})

    def _sibling(self, name: str, data: bytes) -> dict[str, object]:
        about: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": git_id(data)}
        if name.endswith(LARGE):
            stated = self.hub.lies.get(name, sha256(data))
            about["lfs"] = {"sha256": stated, "size": len(data), "pointerSize": 134}
        return about

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self.hub.resolve(repo, revision)
        if found is None or name not in found[1]:
            self._send(404, {"X-Error-Code": "EntryNotFound"}, b"")
            return
        commit, files = found
        data = files[name]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not name.endswith(LARGE):
            self._bytes(data, {**headers, "ETag": f'"{git_id(data)}"'})
            return
        digest = sha256(data)
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self._send(302, {**headers, **linked, "Location": f"{self.hub.elsewhere}/cdn/{digest}"}, b"")

    def _by_digest(self, digest: str) -> bytes:
        every = (
            d for commits in self.hub.repos.values() for files in commits.values() for d in files.values()
        )
        return next(data for data in every if sha256(data) == digest)

    def _bytes(self, data: bytes, headers: dict[str, str]) -> None:
        if self.command == "HEAD":
            self._send(200, headers, data)
            return
        fault = self.hub.faults.pop(0) if self.hub.faults else self.hub.always
        if fault.status is not None:
            self._send(fault.status, {}, b"")
            return
        status, asked = 200, self.headers.get("Range")
        size = len(data)
        if asked and not fault.whole:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            status, headers = 206, {**headers, "Content-Range": f"bytes {begin}-{size - 1}/{size}"}
            data = data[begin:]
        if fault.wrong:
            data = bytes(byte ^ 255 for byte in data)
        self._send(status, headers, data, fault)

    def _json(self, content: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, fault: Fault = Fault()) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if fault.cut is None else body[: fault.cut])
        self.wfile.flush()
        if fault.hold is not None:
            fault.hold.wait(30)
        if fault.cut is not None:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Hub]:
    """A running server."""
    hub = Hub()
    handler = type("Answers", (_Answers,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.elsewhere = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process and those it starts use a server, and keep everything in a folder."""
    from huggingface_hub import constants, file_download, utils

    unset = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in [name for name in os.environ if name.upper().startswith(unset)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    monkeypatch.setenv("REVERIE_MODELS", str(folder / "receipts"))
    monkeypatch.setattr(constants, "ENDPOINT", url)
    for holder in (constants, file_download):  # before 1.0 the second has a name of its own for it
        monkeypatch.setattr(
            holder,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
            raising=holder is constants,
        )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "hf" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    getattr(utils, "reset_sessions", lambda: None)()  # before 1.0 a session keeps whether it was offline
    # Else huggingface_hub asks the server once a day which programs it should know of.
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)


def start(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a Python script in a process of its own, with the environment of this one."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
