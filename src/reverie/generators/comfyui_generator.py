"""Frames by a workflow that runs on a ComfyUI server.

Names are ``comfyui:`` and the address of the server, ``comfyui:http://127.0.0.1:8188``. The frame is sent
into the workflow's ``LoadImage`` node; what its output node saves is the next frame.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import orjson
import xxhash
from PIL import Image

from reverie.checks import check_number, check_strength, check_whole
from reverie.errors import GenerationError, ImageError, InputError
from reverie.generators.comfyui_client import ComfyClient
from reverie.generators.comfyui_workflow import Nodes, Workflow, load_workflow
from reverie.generators.seed_images import built_in_seeds, load_seeds
from reverie.pixels import ImageFile, Pixels, fit, to_pixels

__all__ = ["ComfyGenerator"]

_SERVER = "http://127.0.0.1:8188"
_SIDE = 512


class ComfyGenerator:
    """Makes frames with a workflow of ComfyUI; implements `Generator`.

    The workflow's own prompt, negative prompt, seed and strength stay where a place for them is neither named
    nor found. All waiting is for the server: frames come as fast as it makes them.

    Args:
        seeds: Folder of pictures to start from; None takes the 24 built-in ones.
        variant: Address of the server; empty for ``http://127.0.0.1:8188``.
        workflow: The workflow: JSON as *Export (API)* writes it, or a picture that ComfyUI saved.
        image_node: Node that takes the frame: its id, title or class; None finds it.
        prompt_node: Node that takes the prompt; None finds it.
        negative_node: Node that takes the negative prompt; None finds it.
        seed_node: Node that takes the seed; None finds it.
        strength_node: Node that takes the strength as ``denoise``; None finds it.
        output_node: Node that saves the next frame; None finds it.
        negative_prompt: What to keep away from; empty leaves the workflow's own.
        size: Side of a frame in pixels. What the workflow makes in another size is scaled and cut to it.
        timeout: Seconds without news of a frame, after which it is given up.
        reconnect: Seconds in which a server that went away may come back.
        free: Have the server give up its models when the run ends.

    Attributes:
        name: ``comfyui:`` and the server.
        choice: Which node takes what, in words.
        fingerprint: Of the workflow and of what takes what: a run goes on with the same one only.

    Raises:
        InputError: There is no workflow, a node is not there or not clear, or a setting is out of its range.
    """

    def __init__(
        self,
        seeds: str | os.PathLike[str] | None = None,
        *,
        variant: str = "",
        workflow: str | os.PathLike[str] | None = None,
        image_node: str | int | None = None,
        prompt_node: str | int | None = None,
        negative_node: str | int | None = None,
        seed_node: str | int | None = None,
        strength_node: str | int | None = None,
        output_node: str | int | None = None,
        negative_prompt: str = "",
        size: int = _SIDE,
        timeout: float = 600.0,
        reconnect: float = 60.0,
        free: bool = False,
    ) -> None:
        if workflow is None:
            raise InputError(
                'name the workflow, as ComfyUI exports it for its API: workflow="graph.json" '
                "(--workflow graph.json)"
            )
        self._side = check_whole("size", size, 8)
        given = (image_node, prompt_node, negative_node, seed_node, strength_node, output_node)
        nodes = Nodes(*(None if each is None else str(each) for each in given))
        self._workflow = Workflow(load_workflow(workflow), nodes)
        self._negative, self._free = negative_prompt, free
        self.name = f"comfyui:{variant or _SERVER}"
        self.choice = self._workflow.describe()
        self.fingerprint = xxhash.xxh3_128_hexdigest(
            orjson.dumps(self._filled("", "", 0, 0.5), option=orjson.OPT_SORT_KEYS)
        )
        self.seeds: Sequence[Pixels] = (
            built_in_seeds(self._side) if seeds is None else load_seeds(seeds, self._side)
        )
        self._client = ComfyClient(
            variant or _SERVER,
            timeout=_seconds("timeout", timeout),
            reconnect=_seconds("reconnect", reconnect),
            call=self._workflow.call,
        )

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the frames."""
        return self._side, self._side

    def generate(self, frame: Pixels, *, prompt: str, strength: float, seed: int) -> Pixels:
        """One run of the workflow.

        Args:
            frame: ``(h, w, 3)`` uint8 RGB of `size`.
            prompt: What to aim for; empty leaves the workflow's own.
            strength: 0 keeps the frame, 1 forgets it.
            seed: All randomness of this step.

        Raises:
            GenerationError: The server is not there, refuses the workflow or fails in it.
            InputError: A prompt was given, and the workflow has no place for it; or a strength not in [0, 1].
        """
        if check_strength(strength) == 0.0:
            return frame.copy()
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="PNG", compress_level=1)
        image = self._client.upload(f"frame-{self._client.name[:12]}.png", buffer.getvalue())
        data = self._client.run(self._filled(image, prompt, seed, strength), self._workflow.output)
        try:
            return fit(to_pixels(ImageFile("the frame", data)), *self.size)
        except ImageError as exc:
            raise GenerationError(f"{self.name} gave what is no picture: {exc}") from exc

    def _filled(self, image: str, prompt: str, seed: int, strength: float) -> dict[str, object]:
        return self._workflow.filled(
            image, prompt=prompt, negative=self._negative, seed=seed, strength=strength
        )

    def close(self) -> None:
        """Cancel what runs, have the models given up if that was asked, and hang up; twice is fine."""
        try:
            if self._free:
                self._free = False
                self._client.cancel()
                self._client.free()
        finally:
            self._client.close()


def _seconds(name: str, value: float) -> float:
    found = check_number(name, value)
    if found <= 0:
        raise InputError(f"{name} must be more than 0 seconds, got {value}")
    return found
