"""A server that speaks as ComfyUI does, with a handful of its nodes and switches for what goes wrong.

It stands on aiohttp as ComfyUI does, and keeps to what was seen of its ``server.py`` and ``execution.py``:
what is wrong with a graph is said at ``/prompt``; a picture is decoded when its node runs; what did not
change is not run again; ``execution_success`` comes before the history is written, ``executing`` without a
node after; who did not listen is told nothing later.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import io
import json
import struct
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSCloseCode, web
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

Picture = NDArray[np.uint8]


class ExecutionError(Exception):
    """A node fails."""


def decoded(data: bytes) -> Picture:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def encoded(picture: Picture, graph: Mapping[str, Any]) -> bytes:
    """As ComfyUI saves it: with the graph in the chunk ``prompt``."""
    info, buffer = PngInfo(), io.BytesIO()
    info.add_text("prompt", json.dumps(graph))
    Image.fromarray(picture).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def sampled(
    latent_image: Picture, *, seed: int, positive: str, negative: str, denoise: float, **_: Any
) -> Picture:
    """Stands in for a sampler: the same inputs give the same picture, any other another."""
    key = hashlib.sha256(json.dumps([seed, positive, negative]).encode()).digest()
    noise = np.random.default_rng(list(key)).integers(0, 256, latent_image.shape)
    return np.round(latent_image * (1 - denoise) + noise * denoise).astype(np.uint8)


def halved(image: Picture, **_: Any) -> Picture:
    return np.ascontiguousarray(image[::2, ::2])


NODES: dict[str, Callable[..., Any]] = {
    "CheckpointLoaderSimple": lambda ckpt_name: ckpt_name,
    "CLIPTextEncode": lambda text, **_: text,
    "VAEEncode": lambda pixels, **_: pixels,
    "VAEDecode": lambda samples, **_: samples,
    "KSampler": sampled,
    "ImageInvert": lambda image: 255 - image,
    "ImageScaleBy": halved,
    "PrimitiveInt": lambda value: value,
    "PrimitiveString": lambda value: value,
}
SAVES = ("SaveImage", "PreviewImage", "SaveImageWebsocket")


def refused(kind: str, message: str, details: str = "", nodes: Any = None) -> web.Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": {}}
    return web.json_response({"error": error, "node_errors": nodes or {}}, status=400)


def node_error(kind: str, message: str, details: str) -> dict[str, Any]:
    error = {"type": "wrong", "message": message, "details": details, "extra_info": {}}
    return {"errors": [error], "dependent_outputs": [], "class_type": kind}


@dataclass
class Faults:
    """What goes wrong, each once.

    Attributes:
        node: A node that fails, and with what.
        drop: The connection is cut when this many nodes of a workflow have run.
        forget: The workflow is lost then, as when the server is started anew.
        history_late: Questions for the history that find nothing after the workflow is done.
        hold: Waited for before the first node runs.
        statuses: Answers that are given instead, by path.
    """

    node: tuple[str, str, str] | None = None
    drop: int | None = None
    forget: bool = False
    history_late: int = 0
    hold: threading.Event | None = None
    statuses: dict[str, int] = field(default_factory=dict)


@dataclass
class Comfy:
    """The server's state, open to tests.

    Attributes:
        asked: Method, path and JSON content of requests, in order.
        ran: Nodes that ran, by workflow.
        uploads: Pictures that were sent, by name.
        running: Set while a workflow runs.
        interrupts: Set to stop what runs.
    """

    url: str = ""
    faults: Faults = field(default_factory=Faults)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    ran: dict[str, list[str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    pending: list[list[Any]] = field(default_factory=list)
    running: list[list[Any]] = field(default_factory=list)
    sockets: dict[str, web.WebSocketResponse] = field(default_factory=dict)
    cache: dict[str, tuple[str, Any]] = field(
        default_factory=dict
    )  # by node: key of its inputs, what it made
    shown: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    began: threading.Event = field(default_factory=threading.Event)
    number: int = 0

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [f"{method} {path}" for method, path, _ in self.asked]

    # -- answers

    def routes(self) -> web.Application:
        app = web.Application(middlewares=[self._noted], client_max_size=2**28)
        app.router.add_get("/ws", self._socket)
        app.router.add_post("/upload/image", self._upload)
        app.router.add_post("/prompt", self._prompt)
        app.router.add_get("/history/{prompt_id}", self._history)
        app.router.add_get("/queue", self._queue)
        app.router.add_post("/queue", self._change_queue)
        app.router.add_post("/interrupt", self._interrupt)
        app.router.add_post("/free", self._free)
        app.router.add_get("/view", self._view)
        app.on_startup.append(self._start)
        app.on_shutdown.append(self._hang_up)
        return app

    @web.middleware
    async def _noted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        content = None
        if request.content_type == "application/json" and request.can_read_body:
            content = await request.json()
        self.asked.append((request.method, request.path, content))
        status = self.faults.statuses.pop(request.path, None)
        if status is not None:
            return web.Response(status=status, text="no")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _start(self, _app: web.Application) -> None:
        self.arrived = asyncio.Event()
        self.worker = asyncio.create_task(self._work())

    async def _hang_up(self, _app: web.Application) -> None:
        self.worker.cancel()
        for socket in list(self.sockets.values()):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket, client = web.WebSocketResponse(), request.query.get("clientId", uuid.uuid4().hex)
        await socket.prepare(request)
        self.sockets[client] = socket
        status = {"status": {"exec_info": {"queue_remaining": len(self.pending)}}, "sid": client}
        await socket.send_json({"type": "status", "data": status})
        async for _ in socket:
            pass
        if self.sockets.get(client) is socket:
            del self.sockets[client]
        return socket

    async def _upload(self, request: web.Request) -> web.Response:
        post = await request.post()
        image, subfolder = post["image"], str(post.get("subfolder", ""))
        if not isinstance(image, web.FileField) or ".." in subfolder:
            return web.Response(status=400)
        name = f"{subfolder}/{image.filename}" if subfolder else image.filename
        if post.get("overwrite") not in ("true", "1") and name in self.uploads:
            name = name.replace(".", " (1).")
        self.uploads[name] = image.file.read()
        return web.json_response({"name": image.filename, "subfolder": subfolder, "type": "input"})

    async def _prompt(self, request: web.Request) -> web.Response:
        content = await request.json()
        graph = content["prompt"]
        for node, each in graph.items():
            kind = each["class_type"]
            if kind not in (*NODES, *SAVES, "LoadImage"):
                return refused("missing_node_type", f"Node {kind!r} not found.", f"Node ID '#{node}'")
        errors = self._errors(graph)
        outputs = [node for node, each in graph.items() if each["class_type"] in SAVES]
        sound = [node for node in outputs if not errors.keys() & self._above(graph, node)]
        if not outputs:
            return refused("prompt_no_outputs", "Prompt has no outputs")
        if not sound:
            said = "Prompt outputs failed validation"
            return refused("prompt_outputs_failed_validation", said, nodes=errors)
        self.number += 1
        prompt_id = str(uuid.uuid4())
        extra = {"client_id": content.get("client_id")}
        self.pending.append([self.number, prompt_id, graph, extra, sound])
        self.arrived.set()
        return web.json_response({"prompt_id": prompt_id, "number": self.number, "node_errors": errors})

    def _errors(self, graph: Mapping[str, Any]) -> dict[str, Any]:
        """What is wrong with single nodes, and with outputs because of them."""
        found: dict[str, Any] = {}
        for node, each in graph.items():
            inputs, kind = each["inputs"], each["class_type"]
            image = inputs.get("image")
            if kind == "LoadImage" and image not in self.uploads:
                wrong = ("Custom validation failed for node", f"image - Invalid image file: {image}")
                found[node] = node_error(kind, *wrong)
            if kind == "KSampler" and not 0 <= inputs.get("denoise", 1) <= 1:
                found[node] = node_error(kind, "Value bigger than max of 1.0", "denoise")
            if kind in SAVES and not isinstance(inputs.get("images"), list):
                found[node] = node_error(kind, "Required input is missing", "images")
        bad = set(found)
        for node, each in graph.items():
            above = bad & self._above(graph, node)
            if each["class_type"] in SAVES and above and node not in found:
                said = "Exception when validating inner node"
                found[node] = node_error(each["class_type"], said, ", ".join(sorted(above)))
        return found

    def _above(self, graph: Mapping[str, Any], node: str) -> set[str]:
        links = [value[0] for value in graph[node]["inputs"].values() if isinstance(value, list)]
        return {node}.union(*(self._above(graph, link) for link in links))

    async def _history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        if prompt_id in self.history and self.faults.history_late > 0:
            self.faults.history_late -= 1
            return web.json_response({})
        return web.json_response({key: value for key, value in self.history.items() if key == prompt_id})

    async def _queue(self, _request: web.Request) -> web.Response:
        return web.json_response({"queue_running": self.running, "queue_pending": self.pending})

    async def _change_queue(self, request: web.Request) -> web.Response:
        content = await request.json()
        gone = content.get("delete", [])
        self.pending = [each for each in self.pending if each[1] not in gone and not content.get("clear")]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        content = await request.json() if request.can_read_body else {}
        named = content.get("prompt_id")
        if named is None or any(each[1] == named for each in self.running):
            self.interrupted = True
        return web.Response()

    async def _free(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _view(self, request: web.Request) -> web.Response:
        data = self.outputs.get("/".join(request.query[name] for name in ("type", "subfolder", "filename")))
        return web.Response(status=404) if data is None else web.Response(body=data, content_type="image/png")

    # -- running workflows

    async def _work(self) -> None:
        while True:
            await self.arrived.wait()
            self.arrived.clear()
            while self.pending:
                item = self.pending.pop(0)
                self.running = [item]
                self.began.set()
                try:
                    entry = await self._execute(item)
                finally:
                    self.running = []
                    self.began.clear()
                if entry is not None:
                    self.history[item[1]] = entry
                    await self._tell(item, "executing", {"node": None})

    async def _tell(self, item: list[Any], kind: str, data: dict[str, Any]) -> None:
        socket = self.sockets.get(item[3]["client_id"])
        if socket is not None and not socket.closed:
            await socket.send_json({"type": kind, "data": {**data, "prompt_id": item[1]}})

    async def _execute(self, item: list[Any]) -> dict[str, Any] | None:
        _, prompt_id, graph, extra, outputs = item
        ran = self.ran.setdefault(prompt_id, [])
        messages: list[list[Any]] = [["execution_start", {"prompt_id": prompt_id}]]
        await self._tell(item, "execution_start", {})
        self.shown, kept, values = {}, self.cache, {}
        self.cache = {}
        keys = {node: self._key(graph, node) for output in outputs for node in self._above(graph, output)}
        cached = [node for node, key in keys.items() if node in kept and kept[node][0] == key]
        await self._tell(item, "execution_cached", {"nodes": cached})
        while self.faults.hold is not None and not self.faults.hold.is_set() and not self.interrupted:
            await asyncio.sleep(0.005)
        for node in dict.fromkeys(node for output in outputs for node in self._order(graph, output)):
            if node in cached:
                self.cache[node] = kept[node]
                values[node], shown = kept[node][1]
                await self._show(item, node, shown)
                continue
            said = {"node_id": node, "node_type": graph[node]["class_type"], "executed": ran}
            if self.interrupted:
                self.interrupted = False
                return await self._failed(item, messages, "execution_interrupted", said)
            await self._tell(item, "executing", {"node": node})
            try:
                values[node], shown = await self._run(item, node, values)
            except (ExecutionError, OSError, TypeError, ValueError) as exc:
                kind = self.faults.node[1] if self.faults.node else type(exc).__name__
                self.faults.node = None
                said |= {"exception_message": str(exc), "exception_type": kind, "traceback": []}
                return await self._failed(item, messages, "execution_error", said)
            ran.append(node)
            if graph[node]["class_type"] != "SaveImageWebsocket":  # it says that it always changed
                self.cache[node] = (keys[node], (values[node], shown))
            await self._show(item, node, shown)
            if self.faults.drop is not None and len(ran) >= self.faults.drop:
                self.faults.drop = None
                await self.sockets.pop(extra["client_id"]).close()
                if self.faults.forget:
                    self.faults.forget = False
                    return None
        await self._tell(item, "execution_success", {})
        return self._entry(item, [*messages, ["execution_success", {"prompt_id": prompt_id}]], "success")

    async def _show(self, item: list[Any], node: str, shown: dict[str, Any]) -> None:
        if shown:
            self.shown[node] = shown
            await self._tell(item, "executed", {"node": node, "output": shown})

    async def _failed(
        self, item: list[Any], messages: list[list[Any]], kind: str, said: dict[str, Any]
    ) -> dict[str, Any]:
        await self._tell(item, kind, said)
        return self._entry(item, [*messages, [kind, {**said, "prompt_id": item[1]}]], "error")

    def _entry(self, item: list[Any], messages: list[list[Any]], status: str) -> dict[str, Any]:
        told = {"status_str": status, "completed": status == "success", "messages": messages}
        return {"prompt": item, "outputs": copy.deepcopy(self.shown), "status": told, "meta": {}}

    def _key(self, graph: Mapping[str, Any], node: str) -> str:
        """What a node's result depends on; of a picture its content, as ComfyUI's LoadImage has it."""
        parts = [graph[node]["class_type"]]
        for name, value in sorted(graph[node]["inputs"].items()):
            parts.append(self._key(graph, value[0]) if isinstance(value, list) else f"{name}={value}")
            if graph[node]["class_type"] == "LoadImage" and name == "image":
                parts.append(hashlib.sha256(self.uploads[value]).hexdigest())
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def _order(self, graph: Mapping[str, Any], node: str) -> list[str]:
        links = [value[0] for value in graph[node]["inputs"].values() if isinstance(value, list)]
        above = [each for link in links for each in self._order(graph, link)]
        return [*dict.fromkeys(above), node]

    async def _run(self, item: list[Any], node: str, values: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        graph = item[2]
        if self.faults.node is not None and self.faults.node[0] == node:
            raise ExecutionError(self.faults.node[2])
        kind = graph[node]["class_type"]
        inputs = {
            name: values[value[0]] if isinstance(value, list) else value
            for name, value in graph[node]["inputs"].items()
        }
        if kind == "LoadImage":
            return decoded(self.uploads[inputs["image"]]), {}
        if kind == "KSampler":
            await self._tell(item, "progress", {"value": 1, "max": 1, "node": node})
            await self._preview(item, inputs["latent_image"])
        if kind not in SAVES:
            return NODES[kind](**inputs), {}
        if kind == "SaveImageWebsocket":
            await self._preview(item, inputs["images"], b"\0\0\0\2")
            return None, {}
        folder = "temp" if kind == "PreviewImage" else "output"
        name = f"{inputs.get('filename_prefix', 'ComfyUI')}_{len(self.outputs) + 1:05d}_.png"
        self.outputs[f"{folder}//{name}"] = encoded(inputs["images"], graph)
        return None, {"images": [{"filename": name, "subfolder": "", "type": folder}]}

    async def _preview(self, item: list[Any], picture: Picture, kind: bytes = b"\0\0\0\1") -> None:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        socket = self.sockets.get(item[3]["client_id"])
        if socket is not None and not socket.closed:
            await socket.send_bytes(struct.pack(">I", 1) + kind + buffer.getvalue())


@contextmanager
def serving(comfy: Comfy, port: int = 0) -> Iterator[Comfy]:
    """The server on a free port, in a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(comfy.routes(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        comfy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        comfy.runner = loop.run_until_complete(start())  # type: ignore[attr-defined]
        ready.set()
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield comfy
    finally:
        asyncio.run_coroutine_threadsafe(comfy.runner.cleanup(), loop).result()  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
