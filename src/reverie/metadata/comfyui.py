"""ComfyUI: the graph that made the picture, in the chunk ``prompt`` (of a WebP in EXIF).

From the node that saved the picture upwards: the first node that is given conditions is what sampled it. Its
positive and negative links lead, through whatever stands between, to texts; seed, steps and the like stand
in it or above it. Nodes of other packages are followed by the names of their inputs.
"""

from __future__ import annotations

from typing import Any

from reverie.metadata.comfyui_graph import (
    NEGATIVE,
    POSITIVE,
    Graph,
    conditions,
    graph_of,
    inputs_of,
    sampler,
    texts,
    upwards,
)
from reverie.metadata.picture import PictureMetadata, Texts

__all__ = ["read", "read_graph"]

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


def read(found: Texts) -> PictureMetadata | None:
    """What the graph says; None when there is no graph."""
    graph = graph_of(found)
    return None if graph is None else read_graph(graph)


def read_graph(graph: Graph) -> PictureMetadata:
    """What a graph of ComfyUI's API says of the pictures that it makes.

    Args:
        graph: Nodes by id, each with ``class_type`` and ``inputs``; whatever else is in it is passed over.
    """
    sampled = sampler(graph)
    if sampled is None:
        return PictureMetadata("ComfyUI")
    params: dict[str, Any] = {}
    for node in upwards(graph, [sampled]):
        for name, value in inputs_of(graph, node).items():
            ours = _NAMES.get(name)
            if ours is not None and ours not in params and isinstance(value, (str, int, float)):
                params[ours] = value
    negative = _words(graph, sampled, NEGATIVE)
    if negative:
        params["negative_prompt"] = negative
    return PictureMetadata("ComfyUI", _words(graph, sampled, POSITIVE), params)


def _words(graph: Graph, sampled: str, names: tuple[str, ...]) -> str:
    """The first text that an input of these names leads to."""
    for _, found in texts(graph, conditions(graph, sampled, names)):
        said = [each.strip() for each in dict.fromkeys(found.values()) if each.strip()]
        if said:
            return "\n".join(said)
    return ""
