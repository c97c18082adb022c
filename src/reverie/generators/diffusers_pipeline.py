"""Frames by a diffusers pipeline: Stable Diffusion, its turbo and LCM kinds, SDXL, and other img2img.

Names are ``diffusers:`` and a repository of the Hub or a folder: ``diffusers:stabilityai/sd-turbo``,
``diffusers:./my-model``. Everything random comes from the seed of a frame, through a generator of its own on
the processor: the same frame, prompt, strength and seed give the same bytes on the same machine.

A pipeline runs ``int(steps x strength)`` steps: where that would be none, it is given more steps.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, cast, get_args

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from reverie.checks import check_strength, check_whole
from reverie.errors import GenerationError, InputError
from reverie.generators.diffusers_kinds import Kind, kind_of, steps_for
from reverie.generators.diffusers_loading import EXAMPLE, Dtype, dtype_name, load_pipeline, placed, quiet
from reverie.generators.seed_images import built_in_seeds, load_seeds
from reverie.pixels import Pixels
from reverie.tensors import tensor_pixels

__all__ = ["DiffusersGenerator"]

_PROMPTS = 32  # whose embeddings are kept
_LATENTS = 8  # frames whose latents are kept
_OUT_OF_MEMORY: Final = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


class DiffusersGenerator:
    """Makes frames with an img2img pipeline; implements `Generator` and `LatentSpace`.

    Args:
        seeds: Folder of pictures to start from; None takes the 24 built-in ones.
        variant: The model: a repository of the Hub, or a folder as `save_pretrained` writes it.
        size: Side of a frame in pixels, a multiple of 8; None for the model's own.
        steps: Steps of a whole generation, of which ``strength`` are run; None for what suits the model.
        guidance: Guidance scale; None for what suits the model.
        negative_prompt: What to keep away from, for a guidance above 1.
        device: ``cuda``, ``mps``, ``cpu`` or any that torch knows; None for the fastest there is.
        dtype: ``float16``, ``bfloat16`` or ``float32``; None for what suits the device.
        offline: Look for the model on this machine only.
        keep_latents: Go on from the latent of a frame where it is its own next input, without decoding and
            encoding it in between: a frame is not worn away by the round trips, and takes less time.
        safety_checker: Whether a checker that comes with the model looks at frames; a frame that it
            refuses is an error.

    Attributes:
        name: ``diffusers:`` and the model.
        choice: What it runs on, and why, in words.

    Raises:
        InputError: No model is named, or a setting is out of its range.
        ModelNotFoundError: The model is not on this machine, and cannot be fetched.
        ModelCorruptError: It is no img2img pipeline, or a file of it is damaged.
        GenerationError: It does not fit into memory.
    """

    def __init__(
        self,
        seeds: str | os.PathLike[str] | None = None,
        *,
        variant: str = "",
        size: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        device: str | None = None,
        dtype: Dtype | None = None,
        offline: bool = False,
        keep_latents: bool = False,
        safety_checker: bool = True,
    ) -> None:
        if not variant:
            raise InputError(f"name the model, {EXAMPLE}")
        self.name = f"diffusers:{variant}"
        if steps is not None:
            check_whole("steps", steps, 1)
        if dtype is not None and dtype not in get_args(Dtype):
            raise InputError(f"dtype must be {', '.join(get_args(Dtype))}, got {dtype!r}")
        self._device, self._dtype, why = placed(device, dtype)
        self._pipe = load_pipeline(variant, self._dtype, offline=offline, safety_checker=safety_checker)
        with self._memory("load the model"):
            self._pipe.to(self._device)
        self._kind: Kind = kind_of(variant, self._pipe)
        self._steps = self._kind.steps if steps is None else steps
        self._guidance = self._kind.guidance if guidance is None else float(guidance)
        self._negative = negative_prompt
        self._side = self._checked_side(size)
        self._keeps = keep_latents and self._check_keeping()
        self._latents: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._words = lru_cache(maxsize=_PROMPTS)(self._encoded)
        self.choice = (
            f"{self._kind.name} on {self._device} in {dtype_name(self._dtype)} ({why}), {self._steps} steps, "
            f"guidance {self._guidance:g}"
        )
        self.seeds: Sequence[Pixels] = (
            built_in_seeds(self._side) if seeds is None else load_seeds(seeds, self._side)
        )

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the frames."""
        return self._side, self._side

    def _checked_side(self, size: int | None) -> int:
        factor = int(getattr(self._pipe, "vae_scale_factor", 8))
        if size is None:
            network = getattr(self._pipe, "unet", None) or self._pipe.transformer
            cells: Any = network.config.sample_size
            return int(cells if isinstance(cells, int) else min(cells)) * factor
        check_whole("size", size, factor)
        if size % factor:
            near = round(size / factor) * factor
            raise InputError(
                f"size must be a multiple of {factor} for {self.name}, such as {near}; got {size}"
            )
        return size

    def _check_keeping(self) -> bool:
        if getattr(self._pipe, "safety_checker", None) is not None:
            raise InputError(
                "keep_latents goes on from what no safety checker has seen: give safety_checker=False as well"
            )
        if not isinstance(getattr(self._pipe.vae.config, "scaling_factor", None), float):
            raise InputError(f"{self.name} has no latents that can be kept")
        return True

    # ------------------------------------------------------------------ frames

    def generate(self, frame: Pixels, *, prompt: str, strength: float, seed: int) -> Pixels:
        """One img2img step.

        Args:
            frame: ``(h, w, 3)`` uint8 RGB of `size`.
            prompt: What to aim for.
            strength: 0 keeps the frame, 1 forgets it.
            seed: All randomness of this step.

        Raises:
            GenerationError: Out of memory, numbers that are none, or a frame that a safety checker refuses.
            InputError: ``strength`` is not in [0, 1].
        """
        if check_strength(strength) == 0.0:
            return frame.copy()
        known = self._known(frame)
        with self._memory("make a frame"):
            made = self._pipe(
                **self._words(prompt),
                image=_signal(frame, self._device, self._dtype) if known is None else known,
                strength=strength,
                num_inference_steps=steps_for(self._steps, strength),
                guidance_scale=self._guidance,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="latent" if self._keeps else "pt",
            )
            self._check_refused(made)
            if not self._keeps:
                return self._as_pixels(made.images[0])
            pixels = self._drawn(made.images)
        self._keep(pixels, made.images)
        return pixels

    def _check_refused(self, made: Any) -> None:
        if any(getattr(made, "nsfw_content_detected", None) or ()):
            raise GenerationError(
                f"the safety checker of {self.name} refused the frame and made it black: another prompt or "
                "seed may do, or leave it out with safety_checker=False (--option safety_checker=false)"
            )

    def _as_pixels(self, image: torch.Tensor) -> Pixels:
        if not bool(torch.isfinite(image).all()):
            raise GenerationError(
                f"{self.name} made no numbers: its decoder overflows in {dtype_name(self._dtype)}; "
                "use another dtype (--dtype bfloat16, or float32)"
            )
        return cast("Pixels", np.ascontiguousarray(tensor_pixels(image.clamp(0, 1))))

    def _encoded(self, prompt: str) -> dict[str, Any]:
        """What the pipeline takes for a prompt: its embeddings where they can be had beforehand."""
        pipe, guided = self._pipe, self._guidance > 1 and not self._kind.embeds_guidance
        if not hasattr(pipe, "unet"):
            return {"prompt": prompt}
        common = {
            "device": self._device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": guided,
            "negative_prompt": self._negative or None,
        }
        with torch.no_grad():
            found = pipe.encode_prompt(prompt, **common)
        names = (
            "prompt_embeds",
            "negative_prompt_embeds",
            "pooled_prompt_embeds",
            "negative_pooled_prompt_embeds",
        )
        return dict(zip(names, found, strict=False))

    @contextmanager
    def _memory(self, doing: str) -> Iterator[None]:
        """What torch says when there is no room left, in our words; and no notes of diffusers."""
        try:
            with torch.inference_mode(), quiet():
                yield
        except (_OUT_OF_MEMORY, RuntimeError) as exc:
            if not isinstance(exc, _OUT_OF_MEMORY) and "allocate memory" not in str(exc):
                raise GenerationError(f"{self.name} cannot {doing}: {exc}") from exc
            if self._device.startswith("cuda"):
                torch.cuda.empty_cache()
            side = getattr(self, "_side", None)
            what = f"frames of {side} pixels in " if side else ""
            raise GenerationError(
                f"out of memory on {self._device}: it could not {doing} ({what}{dtype_name(self._dtype)}); "
                "end other programs that use it, or choose a smaller --size or --dtype float16; a run goes "
                "on with --resume"
            ) from exc

    # ------------------------------------------------------------------ latents

    def encode(self, pixels: Pixels) -> NDArray[np.float32]:
        """The latent of a frame, ``(c, h / 8, w / 8)`` float32, always the same."""
        with self._memory("encode a frame"), self._exact_vae() as vae:
            coded = vae.encode(_signal(pixels, self._device, vae.dtype) * 2 - 1)
            latent = coded.latent_dist.mode() if hasattr(coded, "latent_dist") else coded.latents
            return _numbers((latent - self._shift()) * self._scale())

    def decode(self, latent: NDArray[np.float32]) -> Pixels:
        """The frame of a latent, ``(h, w, 3)`` uint8 RGB."""
        with self._memory("decode a frame"):
            values = torch.from_numpy(np.ascontiguousarray(latent))[None].to(self._device, self._dtype)
            pixels = self._drawn(values)
        if self._keeps:
            self._keep(pixels, values)
        return pixels

    def _drawn(self, latent: torch.Tensor) -> Pixels:
        with self._exact_vae() as vae:
            image = vae.decode(latent.to(vae.dtype) / self._scale() + self._shift()).sample
        return self._as_pixels(image[0].float() / 2 + 0.5)

    def _scale(self) -> float:
        return float(self._pipe.vae.config.scaling_factor)

    def _shift(self) -> float:
        return float(getattr(self._pipe.vae.config, "shift_factor", None) or 0.0)

    @contextmanager
    def _exact_vae(self) -> Iterator[Any]:
        """The autoencoder, in float32 where it is known to overflow in float16 (SDXL's)."""
        vae = self._pipe.vae
        upcast = hasattr(self._pipe, "upcast_vae") and vae.dtype == torch.float16
        upcast = upcast and bool(getattr(vae.config, "force_upcast", False))
        if upcast:
            vae.to(torch.float32)
        try:
            yield vae
        finally:
            if upcast:
                vae.to(torch.float16)

    def _keep(self, pixels: Pixels, latent: torch.Tensor) -> None:
        self._latents[_digest(pixels)] = latent.detach()
        while len(self._latents) > _LATENTS:
            self._latents.popitem(last=False)

    def _known(self, pixels: Pixels) -> torch.Tensor | None:
        return self._latents.get(_digest(pixels)) if self._keeps else None

    def latent_of(self, pixels: Pixels) -> NDArray[np.float32] | None:
        """The latent that a frame was decoded from; None when it is not kept."""
        known = self._known(pixels)
        return None if known is None else _numbers(known)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The latents that are kept, oldest first, by a digest of their frames."""
        return {digest: _numbers(latent) for digest, latent in self._latents.items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on with latents that `state` gave."""
        self._latents.clear()
        for digest, latent in state.items():
            self._latents[digest] = torch.from_numpy(np.array(latent))[None].to(self._device, self._dtype)


def _numbers(latent: torch.Tensor) -> NDArray[np.float32]:
    """Of a batch of one."""
    found: NDArray[np.float32] = latent[0].float().cpu().numpy()
    return found


def _digest(pixels: Pixels) -> str:
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(pixels).data)


def _signal(pixels: Pixels, device: str, dtype: torch.dtype) -> torch.Tensor:
    """``(1, 3, h, w)`` from 0 to 1."""
    image = torch.from_numpy(np.array(pixels)).to(device)
    return (image.permute(2, 0, 1)[None].float() / 255).to(dtype)
