"""Frames that are torch tensors, taken and given back without importing torch.

A tensor of a frame is ``(h, w, 3)`` as ComfyUI has it, ``(3, h, w)`` as torch's own layers have it, or
either with a batch of one before it; floating point from 0 to 1, or uint8. It may be on any device: it is
made uint8 there, so that a quarter of the bytes is fetched.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from reverie.errors import ImageError

__all__ = ["Tensor", "as_tensor", "is_tensor", "numbers", "tensor_pixels"]

_OUTSIDE = 0.05  # of 0..1: decoders overshoot a little


class Tensor(Protocol):
    """What we use of a `torch.Tensor`."""

    shape: Any
    dtype: Any
    device: Any

    def detach(self) -> Tensor:
        """Without its history."""

    def new_tensor(self, data: Any) -> Any:
        """Of other numbers, with its dtype, on its device."""


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether it is a `torch.Tensor`, or of a class made of it."""
    kind = type(value)
    return any(base.__name__ == "Tensor" and base.__module__ == "torch" for base in kind.__mro__)


def tensor_pixels(tensor: Tensor) -> NDArray[np.uint8]:
    """A frame as ``(h, w, 3)`` uint8 RGB on the processor, rounded to the nearest of 256 levels.

    Of a uint8 tensor on the processor it is a view, else memory of its own.

    Raises:
        ImageError: Another shape, more than one frame, another dtype, or numbers that are not from 0 to 1.
    """
    frame: Any = tensor.detach()
    if frame.dim() == 4 and frame.shape[0] == 1:
        frame = frame[0]
    if frame.dim() != 3 or 0 in frame.shape or 3 not in (frame.shape[-1], frame.shape[0]):
        raise ImageError(_shape_wrong(tensor))
    if frame.shape[-1] != 3:
        frame = frame.permute(1, 2, 0)
    if frame.dtype.is_floating_point:
        _check_range(frame)
        frame = (frame * 255).round().clamp(0, 255).byte()
    elif str(frame.dtype) != "torch.uint8":
        raise ImageError(f"a tensor must be floating point from 0 to 1, or uint8, got {frame.dtype}")
    return cast("NDArray[np.uint8]", frame.cpu().numpy())


def _shape_wrong(tensor: Tensor) -> str:
    shape = tuple(tensor.shape)
    hint = ""
    if len(shape) == 4 and shape[0] != 1:
        hint = "; of a batch, hand in one frame after the other: for frame in batch"
    elif len(shape) >= 3 and 4 in (shape[-1], shape[-3]):
        hint = "; leave the fourth channel out: image[..., :3], or image[:3] where channels come first"
    return f"a tensor must have shape (h, w, 3), (3, h, w), or a batch of one of these, got {shape}{hint}"


def _check_range(frame: Any) -> None:
    lowest, highest = (float(each) for each in frame.float().aminmax())
    if lowest >= -_OUTSIDE and highest <= 1 + _OUTSIDE:
        return
    if lowest != lowest or highest != highest:  # noqa: PLR0124 - NaN
        raise ImageError(
            "a tensor must hold numbers from 0 to 1, got NaN: a decoder in float16 overflows so; "
            "use bfloat16 or float32 for it"
        )
    hint = ""
    if lowest >= -1 - _OUTSIDE and highest <= 1 + _OUTSIDE:
        hint = "; for values from -1 to 1 pass (x + 1) / 2"
    elif lowest >= 0 and highest <= 255:
        hint = "; for values from 0 to 255 pass x / 255"
    raise ImageError(f"a tensor must hold numbers from 0 to 1, got {lowest:g} to {highest:g}{hint}")


def as_tensor(pixels: NDArray[np.uint8], like: Tensor) -> Tensor:
    """Pixels ``(h, w, 3)`` as a tensor of the layout, dtype and device of another.

    Args:
        pixels: uint8 RGB.
        like: One that `tensor_pixels` takes.
    """
    channels_last = like.shape[-1] == 3
    made: Any = like.new_tensor(pixels if channels_last else np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    if made.dtype.is_floating_point:
        made = made / 255
    return cast("Tensor", made[None] if len(like.shape) == 4 else made)


def numbers(values: Any) -> NDArray[np.float32]:
    """A copy of an array or a tensor as float32 on the processor, of its shape."""
    if is_tensor(values):
        values = cast("Any", values.detach()).float().cpu().numpy()
    return np.array(values, dtype=np.float32)
