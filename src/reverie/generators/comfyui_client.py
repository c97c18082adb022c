"""One conversation with a ComfyUI server: pictures sent, workflows queued, pictures fetched.

The server tells over a WebSocket how far it is, once: after a lost connection, its queue and history are
asked. What neither of them knows was lost with the server, and is queued again.

Protocol: https://docs.comfy.org/development/comfyui-server/comms_routes and its ``server.py``. ``executing``
without a node comes after the history is written, ``execution_success`` before.
"""

from __future__ import annotations

import contextlib
import json
import struct
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from reverie.errors import GenerationError, InputError

__all__ = ["ComfyClient"]

_LOOK_EVERY = 5.0  # seconds without news, after which the server is asked
_WRITTEN_WITHIN = 5.0  # seconds in which a workflow that is done must be in the history
_AGAIN = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds between tries to reach a server, the last for all further ones
_PREVIEW = 1  # kind of a binary message: a picture
_LOST = 3  # times that a workflow is queued again


class ComfyClient:
    """Talks to one server.

    Args:
        url: Of the server, such as ``http://127.0.0.1:8188``; https and a path before ours are fine.
        timeout: Seconds without any news of a workflow that is running, after which it is given up.
        reconnect: Seconds in which a server that went away may come back.
        call: How a node is named in messages.

    Attributes:
        name: What this conversation is called on the server.

    Raises:
        InputError: That is no address of a server.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 600.0,
        reconnect: float = 60.0,
        call: Callable[[str], str] = "node {}".format,
    ) -> None:
        split = urlsplit(url if "//" in url else f"//{url}", "http")
        if split.scheme not in ("http", "https") or not split.hostname:
            raise InputError(f"{url!r} is no address of a server, such as http://127.0.0.1:8188")
        place = f"{split.netloc}{split.path.rstrip('/')}"
        self._url = f"{split.scheme}://{place}"
        self.name = uuid.uuid4().hex
        self._socket_url = f"ws{split.scheme[4:]}://{place}/ws?clientId={self.name}"
        self._timeout, self._reconnect, self._call = timeout, reconnect, call
        self._http = httpx.Client(base_url=self._url, timeout=httpx.Timeout(60.0, connect=10.0))
        self._socket: ClientConnection | None = None
        self._connection = contextlib.ExitStack()  # what ends it
        self._running: str | None = None  # what was queued last and is not done; empty: it has no name yet

    # ------------------------------------------------------------------ pictures

    def upload(self, name: str, data: bytes) -> str:
        """Send a picture, in the place of one of that name; gives what a node calls it."""
        answer = self._json(
            "POST",
            "/upload/image",
            files={"image": (name, data, "image/png")},
            data={"overwrite": "true", "subfolder": "reverie"},
        )
        folder, stored = answer.get("subfolder"), answer.get("name")
        if not isinstance(stored, str):
            raise self._odd("/upload/image", answer)
        return f"{folder}/{stored}" if folder else stored

    def _fetch(self, picture: Mapping[str, Any]) -> bytes:
        asked = {name: picture.get(name, "") for name in ("filename", "subfolder", "type")}
        return self._request("GET", "/view", params=asked).content

    # ------------------------------------------------------------------ workflows

    def run(self, graph: Mapping[str, Any], output: str) -> bytes:
        """Run a workflow and give the last picture that a node of it saved, as the bytes of its file.

        Raises:
            GenerationError: The server is not there, refuses the workflow or fails in it, or is silent.
        """
        for _ in range(_LOST):
            self._listen()  # before it is queued: no message is missed
            self._running = ""  # from here on it may be there
            try:
                self._running = self._queue(graph, output)
                picture = self._followed(self._running, output)
            except (KeyboardInterrupt, SystemExit):
                self.cancel()
                raise
            if picture is not None:
                self._running = None
                return picture
        raise GenerationError(f"{self._url} lost the workflow {_LOST} times: look at what it prints")

    def _queue(self, graph: Mapping[str, Any], output: str) -> str:
        answer = self._json("POST", "/prompt", json={"prompt": graph, "client_id": self.name})
        errors = answer.get("node_errors")
        if isinstance(errors, dict) and output in errors:
            raise GenerationError(f"{self._url} refused the workflow: {self._errors(answer)}")
        prompt_id = answer.get("prompt_id")
        if not isinstance(prompt_id, str):
            raise self._odd("/prompt", answer)
        return prompt_id

    def _followed(self, prompt_id: str, output: str) -> bytes | None:
        """The picture, once the server says that it is done; None when the server knows nothing of it."""
        heard = asked = time.monotonic()
        node, direct = None, None
        while True:
            self._refuse_silence(heard, node)
            message = self._message()
            if isinstance(message, bytes):
                direct = (_picture_of(message) if node == output else None) or direct
                continue
            kind, data = _parsed(message)
            if data.get("prompt_id") == prompt_id:
                heard = time.monotonic()
                self._refuse_failure(kind, data)
                if kind in ("executing", "progress"):
                    node = data.get("node")
                if kind == "executing" and node is None:
                    return direct or self._result(prompt_id, output, _WRITTEN_WITHIN)
            elif message is None or time.monotonic() - asked > _LOOK_EVERY:
                asked = time.monotonic()
                waits = self._waits(prompt_id)
                if self._known(prompt_id):  # asked last: it goes from the queue into the history
                    return direct or self._result(prompt_id, output, 0.0)
                if waits is None:
                    return None
                if waits:
                    heard = asked

    def _message(self) -> str | bytes | None:
        """What the server tells next; None when it is silent, or was gone: much may have happened then."""
        try:
            return self._listen().recv(timeout=min(_LOOK_EVERY, self._timeout))
        except TimeoutError:
            return None
        except ConnectionClosed:
            self._hang_up()
            self._listen()
            return None

    def _refuse_silence(self, heard: float, node: str | None) -> None:
        if time.monotonic() - heard > self._timeout:
            self.cancel()
            where = self._call(node) if node else "it did not begin"
            raise GenerationError(
                f"{self._url} has said nothing about the workflow for {self._timeout:g} s ({where}); "
                "--option timeout=SECONDS waits longer"
            )

    def _refuse_failure(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "execution_error":
            self._running = None
            raise GenerationError(self._failure(data))
        if kind == "execution_interrupted":
            self._running = None
            raise GenerationError(f"somebody interrupted the workflow on {self._url}; --resume goes on")

    def _failure(self, data: Mapping[str, Any]) -> str:
        kind = str(data.get("exception_type", "")).rpartition(".")[2]
        said = " ".join(str(data.get("exception_message", "")).split())
        failure = f"{self._call(str(data.get('node_id')))} of the workflow failed: {kind}: {said}"
        if "OutOfMemory" in kind:
            failure += ". End other programs that use the GPU, or make smaller frames (--size)"
        return failure

    def _known(self, prompt_id: str) -> bool:
        """Whether the history has it; raises GenerationError where it says that it failed."""
        entry = self._json("GET", f"/history/{prompt_id}").get(prompt_id)
        if not isinstance(entry, dict):
            return False
        status = entry.get("status")
        for kind, data in status.get("messages", ()) if isinstance(status, dict) else ():
            if isinstance(data, dict):
                self._refuse_failure(kind, data)
        return True

    def _waits(self, prompt_id: str) -> bool | None:
        """Whether it waits behind one that runs; None when it is in no queue."""
        queue = self._json("GET", "/queue")
        running, pending = queue.get("queue_running", ()), queue.get("queue_pending", ())
        if any(prompt_id in each for each in pending):
            return bool(running)
        return False if any(prompt_id in each for each in running) else None

    def _result(self, prompt_id: str, output: str, patience: float) -> bytes:
        """The last picture of a node, by the history; some servers write that a moment after they say so."""
        end, tries = time.monotonic() + patience, 0
        while not self._known(prompt_id):
            if time.monotonic() >= end:
                raise GenerationError(f"{self._url} says that the workflow is done, but not what came of it")
            time.sleep(_AGAIN[min(tries, 1)])
            tries += 1
        entry = self._json("GET", f"/history/{prompt_id}")[prompt_id]
        made = (entry.get("outputs") or {}).get(output) or {}
        pictures = [each for each in made.get("images", ()) if isinstance(each, dict)]
        if not pictures:
            raise GenerationError(
                f"{self._call(output)} saved no picture: another node may be the output (--output-node)"
            )
        return self._fetch(pictures[-1])

    def cancel(self) -> None:
        """Take what was queued last out of the queue, or stop it; what others queued goes on."""
        prompt_id, self._running = self._running, None
        if prompt_id is None:
            return
        with contextlib.suppress(GenerationError):
            waiting = self._ours(prompt_id, "queue_pending")
            if waiting:
                self._request("POST", "/queue", json={"delete": waiting})
            for running in self._ours(
                prompt_id, "queue_running"
            ):  # only then: older servers stop whatever runs
                self._request("POST", "/interrupt", json={"prompt_id": running})

    def _ours(self, prompt_id: str, part: str) -> list[str]:
        """Ids in a part of the queue that are this one, or came from here."""
        found = []
        for item in self._json("GET", "/queue").get(part, ()):
            known, extra = item[1], item[3] if len(item) > 3 else None
            if known == prompt_id or (isinstance(extra, dict) and extra.get("client_id") == self.name):
                found.append(known)
        return found

    def free(self) -> None:
        """Have the server give up its models and the memory that they take."""
        self._request("POST", "/free", json={"unload_models": True, "free_memory": True})

    def close(self) -> None:
        """Cancel what is running, and hang up."""
        self.cancel()
        self._hang_up()
        self._http.close()

    # ------------------------------------------------------------------ the server

    def _listen(self) -> ClientConnection:
        """The connection over which it tells; made anew where it was lost, for as long as one may hope."""
        if self._socket is None:
            end, tries = time.monotonic() + self._reconnect, 0
            while self._socket is None:
                try:
                    opening = connect(self._socket_url, open_timeout=10.0, max_size=None, proxy=None)
                    self._socket = self._connection.enter_context(opening)
                except InvalidHandshake as exc:
                    raise GenerationError(f"{self._url} is no ComfyUI: {exc}") from exc
                except (OSError, TimeoutError, InvalidURI, EOFError) as exc:
                    if self._running is None or time.monotonic() >= end:
                        raise self._absent(exc) from exc
                    time.sleep(_AGAIN[min(tries, len(_AGAIN) - 1)])
                    tries += 1
        return self._socket

    def _hang_up(self) -> None:
        self._socket = None
        with contextlib.suppress(OSError, ConnectionClosed):
            self._connection.close()

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TransportError as exc:
            raise self._absent(exc) from exc
        if answer.is_success:
            return answer
        if path == "/prompt" and answer.status_code == httpx.codes.BAD_REQUEST:
            with contextlib.suppress(ValueError, AttributeError):
                raise GenerationError(f"{self._url} refused the workflow: {self._errors(answer.json())}")
        raise GenerationError(f"{self._url} answered {path} with {answer.status_code} {answer.reason_phrase}")

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._request(method, path, **options)
        try:
            found = answer.json()
        except ValueError as exc:
            raise GenerationError(f"{self._url} is no ComfyUI: {path} gave no JSON") from exc
        if not isinstance(found, dict):
            raise self._odd(path, found)
        return found

    def _errors(self, answer: Mapping[str, Any]) -> str:
        """What a server says of a workflow that it does not take."""
        error, said = answer.get("error"), []
        nodes = answer.get("node_errors")
        for node, found in nodes.items() if isinstance(nodes, dict) else ():
            said += [
                f"{self._call(node)}: {each.get('message')}: {each.get('details')}"
                for each in found.get("errors", ())
            ]
        if not said and isinstance(error, dict):
            said = [f"{error.get('message')} {error.get('details') or ''}".strip()]
        return "; ".join(said or [str(error)])

    def _absent(self, exc: Exception) -> GenerationError:
        return GenerationError(
            f"no ComfyUI answers at {self._url} ({exc}): start it, or check the address; a run goes on with "
            "--resume"
        )

    def _odd(self, path: str, answer: object) -> GenerationError:
        return GenerationError(f"{self._url} is no ComfyUI as we know it: {path} gave {str(answer)[:200]}")


def _parsed(message: str | None) -> tuple[str, dict[str, Any]]:
    """Kind and content of a message; empty for what is none."""
    try:
        found = json.loads(message or "{}")
        data = found.get("data")
        return str(found.get("type", "")), data if isinstance(data, dict) else {}
    except (ValueError, AttributeError):
        return "", {}


def _picture_of(message: bytes) -> bytes | None:
    """The picture in a binary message; None in one of another kind."""
    if len(message) > 8 and struct.unpack(">I", message[:4])[0] == _PREVIEW:
        return message[8:]
    return None
