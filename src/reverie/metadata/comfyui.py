"""ComfyUI: the graph that made the picture, in the chunk ``prompt`` (of a WebP in EXIF).

From the node that saved the picture upwards: the first node that is given conditions is what sampled it. Its
positive and negative links lead, through whatever stands between, to texts; seed, steps and the like stand
in it or above it. Nodes of other packages are followed by the names of their inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Mapping
from typing import Any, TypeAlias

from reverie.metadata.json_text import json_object
from reverie.metadata.picture import PictureMetadata, Texts

__all__ = ["read"]

_Graph: TypeAlias = Mapping[str, Any]

_MOST = 5000  # nodes that are looked at
_NAMES = {
    "seed": "seed",
    "noise_seed": "seed",
    "steps": "steps",
    "cfg": "cfg_scale",
    "guidance": "cfg_scale",
    "sampler_name": "sampler",
    "scheduler": "scheduler",
    "denoise": "denoise",
    "ckpt_name": "model",
    "unet_name": "model",
    "width": "width",
    "height": "height",
}
_TEXTS = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "populated_text", "string", "value")
_NO_WORDS = ("model", "clip", "vae", "samples", "latent_image", "image", "pixels", "mask", "control_net")
_SAVES = ("SaveImage", "Save", "PreviewImage", "Preview", "Output", "Websocket")
_POSITIVE, _NEGATIVE = ("positive", "conditioning"), ("negative",)


def read(texts: Texts) -> PictureMetadata | None:
    """What the graph says; None when there is no graph."""
    graph = _graph(texts)
    if graph is None:
        return None
    sampler = _sampler(graph)
    if sampler is None:
        return PictureMetadata("ComfyUI")
    params: dict[str, Any] = {}
    for node in _upwards(graph, [sampler]):
        for name, value in _inputs(graph, node).items():
            ours = _NAMES.get(name)
            if ours is not None and ours not in params and isinstance(value, (str, int, float)):
                params[ours] = value
    negative = _words(graph, sampler, _NEGATIVE)
    if negative:
        params["negative_prompt"] = negative
    return PictureMetadata("ComfyUI", _words(graph, sampler, _POSITIVE), params)


def _graph(texts: Texts) -> _Graph | None:
    candidates = [texts.get("prompt", "")]
    for name in ("Model", "Make", "ImageDescription", "UserComment"):
        head, colon, rest = texts.get(name, "").partition(":")
        if colon and head.strip().lower() == "prompt":
            candidates.append(rest)
    for text in candidates:
        found = json_object(text)
        if found and any(isinstance(each, dict) and "class_type" in each for each in found.values()):
            return found
    return None


def _inputs(graph: _Graph, node: str) -> Mapping[str, Any]:
    found = graph.get(node)
    inputs = found.get("inputs") if isinstance(found, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _link(value: Any) -> str | None:
    """The node that an input comes from."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int):
        return str(value[0])
    return None


def _upwards(graph: _Graph, begin: list[str], beside: Container[str] = ()) -> Iterator[str]:
    """Nodes and what they are made from, nearest first, each once; inputs of some names are not followed."""
    seen, waiting = set(begin), deque(begin)
    while waiting and len(seen) < _MOST:
        node = waiting.popleft()
        if node not in graph:
            continue
        yield node
        for name, value in _inputs(graph, node).items():
            source = _link(value)
            if source is not None and source not in seen and name not in beside:
                seen.add(source)
                waiting.append(source)


def _sampler(graph: _Graph) -> str | None:
    saves = [node for node in graph if _class(graph, node).startswith(_SAVES)]
    for begin in (saves, list(graph)[:_MOST]):
        for node in _upwards(graph, begin):
            inputs = _inputs(graph, node)
            conditioned = any(_link(inputs.get(name)) for name in (*_POSITIVE, "guider"))
            if conditioned and any(
                name in inputs for name in ("latent_image", "seed", "noise_seed", "noise")
            ):
                return node
    return None


def _class(graph: _Graph, node: str) -> str:
    found = graph.get(node)
    return str(found.get("class_type", "")) if isinstance(found, dict) else ""


def _words(graph: _Graph, sampler: str, names: tuple[str, ...]) -> str:
    """The first text that an input of these names leads to; through a guider where there is one."""
    inputs = _inputs(graph, sampler)
    guider = _link(inputs.get("guider"))
    if guider is not None:
        inputs = _inputs(graph, guider)
    begin = [source for name in names if (source := _link(inputs.get(name))) is not None]
    for node in _upwards(graph, begin, _NO_WORDS):
        if _class(graph, node) == "ConditioningZeroOut":  # whatever stands above it does not count
            return ""
        given = _inputs(graph, node)
        found = [value for name in _TEXTS if isinstance(value := given.get(name), str)]
        texts = [each.strip() for each in dict.fromkeys(found) if each.strip()]
        if texts:
            return "\n".join(texts)
    return ""
