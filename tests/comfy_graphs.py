"""Workflows as ComfyUI exports them for its API."""

from __future__ import annotations

import copy
from typing import Any

Graph = dict[str, Any]


def node(kind: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    """One node."""
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


def img2img(save: str = "SaveImage") -> Graph:
    """The usual one: a picture encoded, sampled and decoded again."""
    return {
        "1": node("CheckpointLoaderSimple", "Load Checkpoint", ckpt_name="sd15.safetensors"),
        "2": node("LoadImage", "Load Image", image="example.png", upload="image"),
        "3": node("VAEEncode", pixels=["2", 0], vae=["1", 2]),
        "4": node("CLIPTextEncode", "Positive", text="a garden", clip=["1", 1]),
        "5": node("CLIPTextEncode", "Negative", text="blurry", clip=["1", 1]),
        "6": node(
            "KSampler",
            seed=7,
            steps=20,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=0.5,
            model=["1", 0],
            positive=["4", 0],
            negative=["5", 0],
            latent_image=["3", 0],
        ),
        "7": node("VAEDecode", samples=["6", 0], vae=["1", 2]),
        "8": node(save, "Save Image", images=["7", 0], filename_prefix="ComfyUI"),
    }


def without_model() -> Graph:
    """One that runs in a ComfyUI without any model: each frame is the negative of the last."""
    return {
        "10": node("LoadImage", "Load Image", image="example.png"),
        "11": node("ImageInvert", "Invert Image", image=["10", 0]),
        "12": node("SaveImage", "Save Image", images=["11", 0], filename_prefix="reverie-test"),
    }


def with_inputs(graph: Graph, node_id: str, **inputs: Any) -> Graph:
    """The same with other inputs of one node."""
    changed = copy.deepcopy(graph)
    changed[node_id]["inputs"].update(inputs)
    return changed


def with_nodes(graph: Graph, **nodes: Any) -> Graph:
    """The same with more nodes, by ``n9=...`` for the id 9."""
    return {**copy.deepcopy(graph), **{name[1:]: content for name, content in nodes.items()}}
