"""The nodes. A picture is what ComfyUI has: a torch tensor ``(batch, height, width, 3)`` of floats, 0..1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from reverie import registry
from reverie.entry import CacheEntry
from reverie.errors import ImageError
from reverie.metadata import read_graph
from reverie.pixels import Pixels, fit
from reverie.query import Where

from .memories import Meters, Settings, Shared, folder_of, shared

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

MEMORY = "REVERIE_MEMORY"
_ENCODERS = ["descriptor", "clip", "clip-vit-l14", "dinov2-base", "siglip2-base"]
_STANDING = ("converging", "stuck", "cycling")
_METERS = Meters()
_PROMPT: dict[str, Any] = {
    "multiline": True,
    "default": "",
    "tooltip": "Empty: what the workflow's sampler is given.",
}


def _output() -> str:
    import folder_paths  # noqa: PLC0415 - ComfyUI's own, there when it runs

    return str(folder_paths.get_output_directory())


def _frames(image: torch.Tensor) -> list[torch.Tensor]:
    """The frames of a batch, each a batch of one, without an alpha channel; views, no copies."""
    if image.dim() != 4 or image.shape[-1] not in (3, 4):
        raise ImageError(
            f"a picture of shape (batch, height, width, 3) was expected, got {tuple(image.shape)}"
        )
    return list(image[..., :3].split(1))


def _batch(pictures: Sequence[Pixels], height: int, width: int) -> torch.Tensor:
    """Pictures as one batch of that size."""
    sized = np.stack([fit(each, height, width) for each in pictures])
    return torch.from_numpy(sized).float().div_(255)


def _said(prompt: str, graph: Any) -> tuple[str, dict[str, Any] | None]:
    """The prompt, and how a picture was made, as the workflow says it."""
    if not isinstance(graph, dict):
        return prompt, None
    found = read_graph(graph)
    return prompt or found.prompt, dict(found.params) or None


class _Always:
    """Runs at every turn: the same frame again is a frame, too, and the memory may have changed."""

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:  # noqa: N802 - ComfyUI calls it so
        """What is never equal to itself."""
        return math.nan


class ReverieMemory:
    """Opens a memory: a folder of pictures with what is known of them."""

    CATEGORY = "reverie"
    DESCRIPTION = "A memory of pictures, kept in a folder and shared by all nodes that name it."
    FUNCTION = "open"
    RETURN_TYPES = (MEMORY,)
    RETURN_NAMES = ("memory",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI calls it so
        """Folder, size, encoder and eviction."""
        return {
            "required": {
                "folder": (
                    "STRING",
                    {"default": "memory", "tooltip": "A folder in output/reverie, or an absolute path."},
                ),
                "max_size": (
                    "INT",
                    {"default": 500, "min": 0, "max": 10_000_000, "tooltip": "0: any number."},
                ),
                "encoder": (_ENCODERS, {"default": "descriptor", "tooltip": "descriptor needs no download."}),
                "eviction": (registry.names("evictions"), {"default": "maxmin"}),
            }
        }

    def open(self, folder: str, max_size: int, encoder: str, eviction: str) -> tuple[Shared]:
        """The memory of that folder."""
        found = shared(folder_of(folder, _output))
        found.set(Settings(max_size, encoder, eviction))
        found.memory.matcher.load()  # here, and not at the first frame
        return (found,)


class ReverieObserve(_Always):
    """One call a frame: remembers it, notices when the loop is stuck, and says what comes next."""

    CATEGORY = "reverie"
    DESCRIPTION = (
        "Takes each frame of a loop. Gives it back as the next one, or a memory when the loop comes to a "
        "standstill."
    )
    FUNCTION = "observe"
    RETURN_TYPES = ("IMAGE", "BOOLEAN", "STRING")
    RETURN_NAMES = ("next_frame", "injected", "reason")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Memory, frame, policy, seed and the loop's name."""
        return {
            "required": {
                "memory": (MEMORY,),
                "image": ("IMAGE",),
                "policy": (registry.names("policies"), {"default": "wander"}),
                # not called "seed": ComfyUI would change it at every run
                "policy_seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1}),
                "loop": ("STRING", {"default": "loop", "tooltip": "Loops with other names are kept apart."}),
            },
            "optional": {"prompt": ("STRING", _PROMPT)},
            "hidden": {"graph": "PROMPT"},
        }

    def observe(
        self,
        *,
        memory: Shared,
        image: torch.Tensor,
        policy: str,
        policy_seed: int,
        loop: str,
        prompt: str = "",
        graph: Any = None,
    ) -> dict[str, Any]:
        """The frames of a batch, one after the other."""
        injector = memory.injector(loop, policy, policy_seed)
        prompt, params = _said(prompt, graph)
        shown, reasons, injected = [], [], False
        for frame in _frames(image):
            injection = injector.observe(frame, prompt=prompt, generation_params=params)
            shown.append(frame if injection is None else injection.image)
            injected = injected or injection is not None
            last = injector.last
            reasons.append(
                injection.reason if injection is not None else last.decision.reason if last else ""
            )
        following = image if not injected and image.shape[-1] == 3 else torch.cat(shown)
        memory.following[loop] = following[-1:]
        reason = "\n".join(reasons)
        return {"ui": {"text": [reason]}, "result": (following, injected, reason)}


class ReverieNextFrame(_Always):
    """Where a loop goes on: what Observe Frame gave when the workflow ran last."""

    CATEGORY = "reverie"
    DESCRIPTION = (
        "The beginning of a loop: what Observe Frame gave at the last run, at first a picture to start from. "
        "Queue the workflow again and again (Run > Instant) and it dreams."
    )
    FUNCTION = "following"
    RETURN_TYPES = ("IMAGE", "BOOLEAN")
    RETURN_NAMES = ("image", "first")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Memory, the picture to start from, the loop's name, and whether to begin again."""
        return {
            "required": {
                "memory": (MEMORY,),
                "start": ("IMAGE",),
                "loop": ("STRING", {"default": "loop", "tooltip": "The name that Observe Frame has."}),
                "begin_again": ("BOOLEAN", {"default": False}),
            }
        }

    def following(
        self, memory: Shared, start: torch.Tensor, loop: str, begin_again: bool
    ) -> tuple[torch.Tensor, bool]:
        """As Observe Frame gave it, without a copy."""
        known = None if begin_again else memory.following.get(loop)
        return (start[:1, ..., :3], True) if known is None else (known, False)


class ReverieRemember:
    """Puts pictures into a memory."""

    CATEGORY = "reverie"
    DESCRIPTION = "Keeps pictures, with the prompt and the settings of the workflow."
    FUNCTION = "remember"
    RETURN_TYPES = (MEMORY, "STRING")
    RETURN_NAMES = ("memory", "ids")
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Memory, pictures, prompt, and whether they stay for good."""
        return {
            "required": {
                "memory": (MEMORY,),
                "image": ("IMAGE",),
                "pinned": ("BOOLEAN", {"default": False, "tooltip": "Eviction never takes it."}),
            },
            "optional": {"prompt": ("STRING", _PROMPT)},
            "hidden": {"graph": "PROMPT"},
        }

    def remember(
        self, memory: Shared, image: torch.Tensor, pinned: bool, prompt: str = "", graph: Any = None
    ) -> dict[str, Any]:
        """Their ids, one a line."""
        prompt, params = _said(prompt, graph)
        kept = [memory.memory.remember(frame, prompt, params, pinned=pinned) for frame in _frames(image)]
        ids = "\n".join(each.cache_id for each in kept if each.cache_id is not None)
        return {"ui": {"text": [ids]}, "result": (memory, ids)}


class _Recalls(_Always):
    """What both ways of recalling give."""

    CATEGORY = "reverie"
    FUNCTION = "recall"
    RETURN_TYPES = ("IMAGE", "STRING", "FLOAT", "INT")
    RETURN_NAMES = ("images", "ids", "similarity", "count")

    @staticmethod
    def _given(
        memory: Shared, found: Sequence[tuple[CacheEntry, float]], size: tuple[int, int] | None
    ) -> tuple[torch.Tensor, str, float, int]:
        pictures = [memory.memory.image(entry.cache_id) for entry, _ in found]
        height, width = size or pictures[0].shape[:2]
        ids = "\n".join(entry.cache_id for entry, _ in found)
        return _batch(pictures, height, width), ids, found[0][1], len(found)


_COUNT = ("INT", {"default": 1, "min": 1, "max": 256})
_WORDS = ("STRING", {"default": "", "tooltip": "Only pictures whose prompt has these words."})


class ReverieRecallSimilar(_Recalls):
    """The memories that look most like a picture."""

    DESCRIPTION = "The memories that look most like a picture; the picture itself where there are none."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Memory, picture, how many and how similar."""
        return {
            "required": {
                "memory": (MEMORY,),
                "image": ("IMAGE",),
                "count": _COUNT,
                "at_least": (
                    "FLOAT",
                    {"default": -1.0, "min": -1.0, "max": 1.0, "step": 0.01, "tooltip": "Cosine."},
                ),
            },
            "optional": {"words": _WORDS},
        }

    def recall(
        self, memory: Shared, image: torch.Tensor, count: int, at_least: float, words: str = ""
    ) -> tuple[torch.Tensor, str, float, int]:
        """As large as the picture."""
        frame = _frames(image)[0]
        where = Where(words) if words.strip() else None
        found = memory.memory.recall(frame, count, at_least, where=where)
        if not found:
            return frame, "", 0.0, 0
        return self._given(memory, found, (int(frame.shape[1]), int(frame.shape[2])))


class ReverieRecallText(_Recalls):
    """The memories that a text describes."""

    DESCRIPTION = (
        "The memories that a text describes (an encoder that reads: clip, siglip2), or whose prompt has its "
        "words (any encoder)."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Memory, text, how many, and what is compared."""
        return {
            "required": {
                "memory": (MEMORY,),
                "text": ("STRING", {"multiline": True, "default": ""}),
                "count": _COUNT,
                "by": (["look", "words of the prompt"], {"default": "look"}),
            },
            "optional": {"otherwise": ("IMAGE", {"tooltip": "Given where nothing is found."})},
        }

    def recall(
        self, memory: Shared, text: str, count: int, by: str, otherwise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, str, float, int]:
        """As large as the first of them, or as the picture that is given otherwise."""
        if by == "look":
            target = memory.memory.matcher.encode_text(text)
            found = memory.memory.recall(target, count)
        else:
            found = [
                (entry, 1.0) for entry in memory.memory.cache.select(Where(text), limit=count, newest=True)
            ]
        size = None if otherwise is None else (int(otherwise.shape[1]), int(otherwise.shape[2]))
        if found:
            return self._given(memory, found, size)
        if otherwise is None:
            raise ImageError(
                f"nothing in {memory.folder} is found for {text!r}: connect `otherwise` for that case"
            )
        return otherwise[:1, ..., :3], "", 0.0, 0


class ReverieMosaic(_Always):
    """A memory at a glance."""

    CATEGORY = "reverie"
    DESCRIPTION = "The pictures of a memory as one picture."
    FUNCTION = "mosaic"
    RETURN_TYPES = ("IMAGE", "INT")
    RETURN_NAMES = ("image", "count")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Memory, columns, rows, and which pictures."""
        return {
            "required": {
                "memory": (MEMORY,),
                "columns": ("INT", {"default": 8, "min": 1, "max": 64}),
                "rows": ("INT", {"default": 5, "min": 1, "max": 64}),
                "tile": ("INT", {"default": 128, "min": 16, "max": 1024, "tooltip": "Pixels a side."}),
                "which": (["evenly spaced", "newest", "oldest"], {"default": "evenly spaced"}),
            }
        }

    def mosaic(
        self, memory: Shared, columns: int, rows: int, tile: int, which: str
    ) -> tuple[torch.Tensor, int]:
        """Oldest first, on the dark of ComfyUI's canvas."""
        ids = memory.memory.cache.ids()
        most = columns * rows
        if which == "newest":
            ids = ids[-most:]
        elif which == "oldest" or len(ids) <= most:
            ids = ids[:most]
        else:
            ids = [ids[round(place)] for place in np.linspace(0, len(ids) - 1, most)]
        gap = max(1, tile // 32)
        filled = max(1, -(-len(ids) // columns))
        sheet = np.full(
            (filled * (tile + gap) + gap, columns * (tile + gap) + gap, 3), (24, 24, 27), dtype=np.uint8
        )
        for place, cache_id in enumerate(ids):
            row, column = divmod(place, columns)
            top, left = gap + row * (tile + gap), gap + column * (tile + gap)
            sheet[top : top + tile, left : left + tile] = fit(memory.memory.image(cache_id), tile, tile)
        return _batch([sheet], *sheet.shape[:2]), len(memory.memory)


class ReverieCollapseMeter(_Always):
    """Says how varied a loop still is, without any memory."""

    CATEGORY = "reverie"
    DESCRIPTION = (
        "Watches a loop: how many different pictures its last frames amount to, and whether it is stuck."
    )
    FUNCTION = "measure"
    RETURN_TYPES = ("FLOAT", "FLOAT", "BOOLEAN", "STRING")
    RETURN_NAMES = ("effective_images", "similarity", "stuck", "state")
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Frame, encoder, the loop's name, and whether to begin again."""
        return {
            "required": {
                "image": ("IMAGE",),
                "encoder": (_ENCODERS, {"default": "descriptor"}),
                "loop": ("STRING", {"default": "loop"}),
                "begin_again": ("BOOLEAN", {"default": False}),
            }
        }

    def measure(self, image: torch.Tensor, encoder: str, loop: str, begin_again: bool) -> dict[str, Any]:
        """Vendi score of the last 100 frames, mean cosine of the last 20, and the state in words."""
        meter = _METERS.of(loop, encoder, anew=begin_again)
        for frame in _frames(image):
            meter.observe(frame)
        last = meter.last
        if last is None or last.state is None:
            raise ImageError("the batch holds no frame")
        varied = float(last.measures.get("effective_images") or 1.0)
        alike = float(last.measures.get("pairwise") or 0.0)
        state = f"{last.state.name} since frame {last.state.since}: {last.state.why}"
        text = f"{varied:.1f} effective images. {state}"
        return {"ui": {"text": [text]}, "result": (varied, alike, last.state.name in _STANDING, state)}


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "ReverieMemory": ReverieMemory,
    "ReverieNextFrame": ReverieNextFrame,
    "ReverieObserve": ReverieObserve,
    "ReverieRemember": ReverieRemember,
    "ReverieRecallSimilar": ReverieRecallSimilar,
    "ReverieRecallText": ReverieRecallText,
    "ReverieMosaic": ReverieMosaic,
    "ReverieCollapseMeter": ReverieCollapseMeter,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ReverieMemory": "Reverie Memory",
    "ReverieNextFrame": "Next Frame",
    "ReverieObserve": "Observe Frame",
    "ReverieRemember": "Remember",
    "ReverieRecallSimilar": "Recall Similar",
    "ReverieRecallText": "Recall by Text",
    "ReverieMosaic": "Memory Mosaic",
    "ReverieCollapseMeter": "Collapse Meter",
}
