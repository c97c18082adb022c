"""ComfyUI's graph as its API takes it: nodes by id, each with a class, inputs, and links to other nodes.

Followed from the node that saves a picture upwards. Nodes of other packages are followed by the names of
their inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from reverie.metadata.json_text import json_object

__all__ = [
    "NEGATIVE",
    "POSITIVE",
    "Graph",
    "class_of",
    "conditions",
    "graph_of",
    "inputs_of",
    "link_of",
    "sampler",
    "texts",
    "upwards",
]

Graph: TypeAlias = Mapping[str, Any]

POSITIVE, NEGATIVE = ("positive", "conditioning"), ("negative",)
"""Inputs of a sampler that lead to what it is to aim for, and to keep away from."""

_MOST = 5000  # nodes that are looked at
_TEXTS = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "populated_text", "string", "value")
_NO_WORDS = ("model", "clip", "vae", "samples", "latent_image", "image", "pixels", "mask", "control_net")
_SAVES = ("SaveImage", "Save", "PreviewImage", "Preview", "Output", "Websocket")


def graph_of(found: Mapping[str, str]) -> Graph | None:
    """The graph among the texts of a picture file; None without one."""
    candidates = [found.get("prompt", "")]
    for name in ("Model", "Make", "ImageDescription", "UserComment"):
        head, colon, rest = found.get(name, "").partition(":")
        if colon and head.strip().lower() == "prompt":
            candidates.append(rest)
    for text in candidates:
        graph = json_object(text)
        if graph and any(isinstance(each, dict) and "class_type" in each for each in graph.values()):
            return graph
    return None


def inputs_of(graph: Graph, node: str) -> Mapping[str, Any]:
    """What a node is given, by name; empty for what is no node."""
    found = graph.get(node)
    inputs = found.get("inputs") if isinstance(found, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def class_of(graph: Graph, node: str) -> str:
    """The class of a node; empty for what is no node."""
    found = graph.get(node)
    return str(found.get("class_type", "")) if isinstance(found, dict) else ""


def link_of(value: Any) -> str | None:
    """The node that an input comes from; None for a value."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int):
        return str(value[0])
    return None


def upwards(graph: Graph, begin: Sequence[str], beside: Container[str] = ()) -> Iterator[str]:
    """Nodes and what they are made from, nearest first, each once; inputs of some names are not followed."""
    seen, waiting = set(begin), deque(begin)
    while waiting and len(seen) < _MOST:
        node = waiting.popleft()
        if node not in graph:
            continue
        yield node
        for name, value in inputs_of(graph, node).items():
            source = link_of(value)
            if source is not None and source not in seen and name not in beside:
                seen.add(source)
                waiting.append(source)


def sampler(graph: Graph, output: str | None = None) -> str | None:
    """The first node above an output, or above any, that is given conditions and noise; None without one."""
    saves = [node for node in graph if class_of(graph, node).startswith(_SAVES)]
    for begin in ([output],) if output is not None else (saves, list(graph)[:_MOST]):
        for node in upwards(graph, begin):
            inputs = inputs_of(graph, node)
            conditioned = any(link_of(inputs.get(name)) for name in (*POSITIVE, "guider"))
            if conditioned and any(
                name in inputs for name in ("latent_image", "seed", "noise_seed", "noise")
            ):
                return node
    return None


def conditions(graph: Graph, sampler: str, names: Sequence[str]) -> list[str]:
    """The nodes that inputs of these names lead to; through a guider if there is one."""
    inputs = inputs_of(graph, sampler)
    guider = link_of(inputs.get("guider"))
    if guider is not None:
        inputs = inputs_of(graph, guider)
    return [source for name in names if (source := link_of(inputs.get(name))) is not None]


def texts(graph: Graph, begin: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Nodes with texts, from these upwards, nearest first.

    Yields:
        A node, and its texts by the names of its inputs.
    """
    for node in upwards(graph, begin, _NO_WORDS):
        if class_of(graph, node) == "ConditioningZeroOut":  # whatever stands above it does not count
            return
        given = inputs_of(graph, node)
        found = {name: value for name in _TEXTS if isinstance(value := given.get(name), str)}
        if found:
            yield node, found
