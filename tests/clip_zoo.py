"""Networks with random weights in the layouts of the Hub: tiny ones for every test, one of full size.

A folder made here holds what a pull of a model's files would: ``config.json``, ``model.safetensors`` and
``pytorch_model.bin`` (torch), ``onnx/vision_model.onnx`` and ``onnx/text_model.onnx`` (as the Hub's own
exports: attention and layer norms in single steps, batch of any size, hidden states as a second output)
and ``tokenizer.json``. Random networks give nearly parallel vectors; the bias of the last layer norm is set
so that the built-in pictures have a mean cosine of about .47, as trained CLIP gives unrelated pictures.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from clip_words import END_ID, START_ID, write_clip_tokenizer
from reverie.generators.seed_images import built_in_seeds
from reverie.pixels import Pixels

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

START, END, CONTEXT = START_ID, END_ID, 77
_UNRELATED = 0.47

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_FULL_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
_FULL_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
}
_CLIP_TEXT = {
    "vocab_size": END + 1,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": 2,  # as in the published file: the text's vector is taken at the largest id
    "bos_token_id": 0,
    "pad_token_id": 1,
}


def pictures(size: int = 224) -> list[Pixels]:
    """The 24 built-in pictures: unlike one another, the same everywhere."""
    return built_in_seeds(size)


def pixel_values(frames: list[Pixels]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """``(n, 3, h, w)`` float32, about 0 +- 1: for tests where preprocessing is not the point."""
    stacked = np.stack(frames).astype(np.float32).transpose(0, 3, 1, 2)
    return np.ascontiguousarray((stacked / 255 - 0.45) / 0.27)


def token_ids(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """``(count, 77)`` int64: random words between a start and an end, filled up with ends as CLIP does."""
    rng = np.random.default_rng(seed)
    ids = np.full((count, CONTEXT), END, np.int64)
    for row in ids:
        length = int(rng.integers(1, CONTEXT - 2))
        row[0], row[1 : 1 + length] = START, rng.integers(0, START, length)
    return ids


class _Part(torch.nn.Module):
    """One tower as a function of one tensor: its embedding and its hidden states."""

    def __init__(
        self, forward: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], model: torch.nn.Module
    ) -> None:
        super().__init__()
        self.model, self._forward = model, forward

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._forward(values)


def export(part: torch.nn.Module, example: torch.Tensor, path: Path, name: str, outputs: list[str]) -> None:
    """Write one network as ONNX with a batch of any size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter tells its own users about its future
        torch.onnx.export(
            part,
            (example,),
            str(path),
            input_names=[name],
            output_names=outputs,
            dynamic_axes={each: {0: "batch_size"} for each in [name, *outputs]},
            opset_version=14,
            dynamo=False,
        )


def _spread(norm: torch.nn.LayerNorm, normed: torch.Tensor) -> None:
    """Take away so much of what all vectors share that a mean cosine of about .47 is left."""
    mean = normed.mean(0)
    own = float((normed - mean).square().sum(1).mean())
    keep = math.sqrt(own * _UNRELATED / (1 - _UNRELATED)) / float(mean.norm())
    with torch.no_grad():
        norm.bias -= (1 - keep) * mean


def clip(
    folder: Path, vision: dict[str, int], text: dict[str, int], *, patch: int = 32, projection: int = 512
) -> Any:
    """A random CLIP in ``folder``, torch and ONNX; the transformers model it was made from."""
    torch.manual_seed(0)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={**text, **_CLIP_TEXT, "projection_dim": projection},
            vision_config={**vision, "image_size": 224, "patch_size": patch, "projection_dim": projection},
            projection_dim=projection,
            attn_implementation="eager",
        )
    ).eval()
    with torch.no_grad():
        seen = model.vision_model(pixel_values=torch.from_numpy(pixel_values(pictures()))).pooler_output
        _spread(model.vision_model.post_layernorm, seen)
        read = model.text_model(input_ids=torch.from_numpy(token_ids(24))).pooler_output
        _spread(model.text_model.final_layer_norm, read)
    model.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")  # what the pinned revision of CLIP holds

    def look(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = model.vision_model(pixel_values=values)
        return model.visual_projection(out.pooler_output), out.last_hidden_state

    def read_ids(ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = model.text_model(input_ids=ids)
        return model.text_projection(out.pooler_output), out.last_hidden_state

    images, ids = torch.zeros(2, 3, 224, 224), torch.from_numpy(token_ids(2))
    out = "last_hidden_state"
    export(
        _Part(look, model), images, folder / "onnx/vision_model.onnx", "pixel_values", ["image_embeds", out]
    )
    export(_Part(read_ids, model), ids, folder / "onnx/text_model.onnx", "input_ids", ["text_embeds", out])
    write_clip_tokenizer(folder)
    return model


def tiny_clip(folder: Path) -> Any:
    """CLIP of two narrow layers, 512-d, 77 tokens, 224 pixels: two seconds to make, a millisecond to run."""
    return clip(folder, TINY, TINY)


def full_clip(folder: Path) -> Any:
    """CLIP ViT-B/32 of the true size (151 million random weights, 1.8 GB on the disk in all layouts)."""
    return clip(folder, _FULL_VISION, _FULL_TEXT)


def tiny_dinov2(folder: Path) -> Any:
    """DINOv2 of one layer, 768-d; it knows 518 pixels and is given 224, so positions are interpolated."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12, "mlp_ratio": 1}
    config = transformers.Dinov2Config(**sizes, image_size=518, patch_size=14, attn_implementation="eager")
    model = transformers.Dinov2Model(config).eval()
    with torch.no_grad():
        seen = model(pixel_values=torch.from_numpy(pixel_values(pictures()[:6]))).pooler_output
        _spread(model.layernorm, seen)
    model.save_pretrained(folder)

    def look(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = model(pixel_values=values)
        return out.last_hidden_state, out.pooler_output

    images = torch.zeros(2, 3, 224, 224)
    outputs = ["last_hidden_state", "pooler_output"]
    export(_Part(look, model), images, folder / "onnx/model.onnx", "pixel_values", outputs)
    return model


def tiny_siglip2(folder: Path) -> Any:
    """SigLIP2 of one layer, 768-d, 256 pixels, 64 tokens, 1,000 words."""
    torch.manual_seed(0)
    sizes = {**TINY, "hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12}
    config = transformers.SiglipConfig(
        text_config={**sizes, "vocab_size": 1000, "max_position_embeddings": 64, "projection_size": 768},
        vision_config={**sizes, "image_size": 256, "patch_size": 16},
        attn_implementation="eager",
    )
    model = transformers.SiglipModel(config).eval()
    model.save_pretrained(folder)

    def look(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = model.vision_model(pixel_values=values)
        return out.last_hidden_state, out.pooler_output

    def read_ids(ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = model.text_model(input_ids=ids)
        return out.last_hidden_state, out.pooler_output

    outputs = ["last_hidden_state", "pooler_output"]
    images, ids = torch.zeros(1, 3, 256, 256), torch.ones(2, 64, dtype=torch.int64)
    export(_Part(look, model), images, folder / "onnx/vision_model.onnx", "pixel_values", outputs)
    export(_Part(read_ids, model), ids, folder / "onnx/text_model.onnx", "input_ids", outputs)
    return model
