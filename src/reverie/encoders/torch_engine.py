"""The engine torch, through transformers: for a process that holds both already, and for GPUs.

Works with transformers 4 and 5: only the tower that is needed is made and read from the file.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from reverie.encoders.clip_engines import EngineFacts
from reverie.errors import ModelCorruptError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.encoders.clip_engines import Job

__all__ = ["TorchEngine", "facts"]

_CLASSES = {
    ("clip", "vision"): ("CLIPVisionModelWithProjection", "image_embeds"),
    ("clip", "text"): ("CLIPTextModelWithProjection", "text_embeds"),
    ("siglip", "vision"): ("SiglipVisionModel", "pooler_output"),
    ("siglip", "text"): ("SiglipTextModel", "pooler_output"),
    ("dinov2", "vision"): ("Dinov2Model", "last_hidden_state"),
}
"""Kind of model in config.json and tower to transformers' class and the output that is the vector."""

_HOME = os.getpid()
_THREADS = threading.Lock()  # torch has one number of threads for the whole process


def facts() -> EngineFacts:
    """What this installation offers."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return EngineFacts(str(torch.__version__), (*devices, "cpu"), ("fp32", "bf16"), "fp32 is exact")


class TorchEngine:
    """One tower as a torch module; implements `reverie.encoders.clip_engines.Engine`.

    torch chooses its kernels by the size of the batch: the same row in another batch may differ by
    about 1e-6.

    Raises:
        ModelCorruptError: The files are not such a network.
    """

    def __init__(self, job: Job) -> None:
        self.device = facts().devices[0]
        self.batch = 8 if self.device == "cpu" else 64
        self._threads = job.threads
        kind, self._output = _class(job)
        dtype = torch.bfloat16 if job.precision == "bf16" else torch.float32
        with _cpu_threads(job.threads):
            self._module = _load(kind, job.files["config.json"].parent).to(self.device, dtype).eval()
        self._input = "pixel_values" if job.tower == "vision" else "input_ids"

    def run(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """The vectors ``(n, d)`` of n inputs; raises ModelError when the network cannot take them."""
        tensor = torch.from_numpy(values).to(self.device)
        if tensor.is_floating_point():
            tensor = tensor.to(self._module.dtype)
        try:
            with _cpu_threads(self._threads), torch.inference_mode():
                found = self._module(**{self._input: tensor})[self._output]
                found = found if found.ndim == 2 else found[:, 0]  # of hidden states the class token
                own: NDArray[np.float32] = found.float().cpu().numpy()
        except (RuntimeError, ValueError) as exc:  # ValueError: another size of picture
            raise ModelError(f"torch cannot run the network on {tuple(values.shape)}: {exc}") from exc
        return own

    def memory(self) -> int:
        """Bytes of the parameters, on the GPU where there is one."""
        return sum(each.numel() * each.element_size() for each in self._module.parameters())


def _class(job: Job) -> tuple[str, str]:
    path = job.files["config.json"]
    try:
        kind = str(json.loads(path.read_text(encoding="utf-8")).get("model_type"))
    except (OSError, ValueError, AttributeError) as exc:
        raise ModelCorruptError(f"{str(path)!r} cannot be read: {exc}") from exc
    found = _CLASSES.get((kind, job.tower))
    if found is None:
        raise ModelCorruptError(
            f"{str(path)!r} is of a {kind!r}, which has no {job.tower} network known here"
        )
    return found


def _load(kind: str, folder: Path) -> Any:
    with _quiet():
        try:
            model, info = getattr(transformers, kind).from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError, KeyError) as exc:
            raise ModelCorruptError(f"transformers cannot load {str(folder)!r}: {exc}") from exc
    # transformers fills what is missing with random numbers and goes on.
    missing = sorted(key for key in info["missing_keys"] if "position_ids" not in key)
    if missing:
        raise ModelCorruptError(f"{str(folder)!r} lacks {len(missing)} weights, {missing[0]!r} among them")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """No bar, and no note on the weights of the other tower."""
    logging: Any = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    """Use so many threads and give the process its own number back: the generator may be torch as well."""
    with _THREADS:
        before = torch.get_num_threads()
        if os.getpid() != _HOME:  # torch's threads stayed in the parent of fork: waiting for them never ends
            count = before = 1
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
