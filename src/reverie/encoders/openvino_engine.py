"""The engine OpenVINO: the fastest on x86 processors, in fp32, bf16 or int8.

The first start reads the ONNX file, leaves out what the one output that is used does not need and writes
the network in OpenVINO's own format under the user's cache folder (as large as the ONNX file). Later starts
map that file into memory and take half the time. The folder may be deleted at any time.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from reverie.encoders.clip_engines import EngineFacts, bf16_pays
from reverie.encoders.openvino_tail import first_token, only_the_first_token
from reverie.errors import ModelCorruptError, ModelError
from reverie.storage import flush_file, partial_name

if TYPE_CHECKING:
    from reverie.encoders.clip_engines import Job

__all__ = ["OpenVinoEngine", "cut", "facts"]

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_GROUP = 128  # int8: values of a token that share a scale; smaller is slower, larger less accurate
_LARGE = 1 << 16  # bytes: smaller constants may be anywhere
_CLOSE = 1e-5  # of the largest number of a vector
_FORM = 2  # of kept networks; another number has them made anew


def facts() -> EngineFacts:
    """What this installation offers on this processor."""
    core = openvino.Core()
    order: tuple[str, ...]
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        order, why = ("fp32", "int8"), "fp32: this processor does not calculate in bf16"
    elif bf16_pays():
        order, why = ("bf16", "fp32", "int8"), "bf16: this processor multiplies matrices in it"
    else:
        order, why = ("fp32", "bf16", "int8"), "fp32: without AMX bf16 is not faster on this processor"
    return EngineFacts(openvino.__version__.partition("-")[0], ("cpu",), order, why)


class OpenVinoEngine:
    """One compiled network; implements `reverie.encoders.clip_engines.Engine`.

    The same row gives the same bits in every batch.

    Raises:
        ModelCorruptError: The file is not such a network.
    """

    device = "cpu"
    batch = 8

    def __init__(self, job: Job) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": job.threads,
            "INFERENCE_PRECISION_HINT": _HINTS[job.precision],
            "ENABLE_CPU_PINNING": False,  # two processes pinned to the same cores would wait for each other
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP if job.precision == "int8" else 0,
        }
        core = openvino.Core()
        self._bytes = job.network.stat().st_size
        try:
            model = _network(core, job)
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as exc:
            raise ModelCorruptError(f"OpenVINO cannot load {str(job.network)!r}: {exc}") from exc
        self._inputs = [each.any_name for each in compiled.inputs]
        self._request = compiled.create_infer_request()
        self._unpacked: openvino.Model | None = model
        _let_go(model)

    def run(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """The vectors ``(n, d)`` of n inputs; raises ModelError when the network cannot take them."""
        # Some exports of text networks also ask which tokens count: all may, see OnnxEngine.
        feeds = {name: np.ones_like(values) if name == "attention_mask" else values for name in self._inputs}
        try:
            found = self._request.infer(feeds, share_inputs=True, share_outputs=True)[0]
        except RuntimeError as exc:
            raise ModelError(f"OpenVINO cannot run the network on {values.shape}: {exc}") from exc
        if self._unpacked is not None:  # the first run packed what the compiler had left
            _let_go(self._unpacked)
            self._unpacked = None
        own: NDArray[np.float32] = np.array(found, dtype=np.float32)
        return own

    def memory(self) -> int:
        """Size of the network's file: OpenVINO counts nothing for the CPU."""
        return self._bytes


def cut(core: openvino.Core, network: Path, output: str, row: Sequence[int] | None = None) -> openvino.Model:
    """Read a network and keep only what one output needs: of hidden states the class token.

    Args:
        core: OpenVINO.
        network: An ONNX file.
        output: Name of the output: vectors ``(n, d)``, or hidden states ``(n, tokens, d)``.
        row: Shape of one picture. With it the other tokens are left out wherever they are not needed (see
            `only_the_first_token`), if a random input shows that the vectors stay as they were.

    Returns:
        A network whose one output is ``(n, d)``.

    Raises:
        ModelCorruptError: It cannot be read, has no such output, or does not take such pictures.
    """
    try:
        model = core.read_model(network)
        names = [name for each in model.outputs for name in each.names]
        if output not in names:
            raise ModelCorruptError(f"{str(network)!r} has no output {output!r}, only {', '.join(names)}")
        vectors = first_token(model.output(output).get_node().input_value(0))
        model = openvino.Model([vectors], model.get_parameters(), model.friendly_name)
        return model if row is None else _shortened(core, model, row)
    except RuntimeError as exc:
        raise ModelCorruptError(f"OpenVINO cannot read {str(network)!r}: {exc}") from exc


def _shortened(core: openvino.Core, model: openvino.Model, row: Sequence[int]) -> openvino.Model:
    """The network for pictures of one size, without unused tokens if its vectors are the same without."""
    model.reshape([-1, *row])
    short = model.clone()
    if not only_the_first_token(short):
        return model
    values = np.random.default_rng(0).standard_normal((2, *row)).astype(np.float32)
    whole, found = (_vectors(core, each, values) for each in (model, short))
    close = whole.shape == found.shape and np.abs(whole - found).max() <= _CLOSE * np.abs(whole).max()
    return short if close else model


def _vectors(core: openvino.Core, model: openvino.Model, values: NDArray[np.float32]) -> NDArray[np.float32]:
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled.create_infer_request().infer([values])[0])


def _network(core: openvino.Core, job: Job) -> openvino.Model:
    """The network cut to its output: from the cache folder, or from the ONNX file and kept there."""
    if job.network.suffix == ".xml":
        return core.read_model(job.network)
    folder = Path(user_cache_dir("reverie", appauthor=False)) / "openvino" / _key(job)
    kept = folder / "network.xml"
    if not kept.exists():
        model = cut(core, job.network, job.output, _row(job))
        if not _keep(model, folder):
            return model
    try:
        return core.read_model(kept)
    except RuntimeError:
        shutil.rmtree(folder, ignore_errors=True)  # cut short by a full disk or a power cut
        return cut(core, job.network, job.output, _row(job))


def _row(job: Job) -> tuple[int, ...] | None:
    """Shape of one picture of the model; None for texts, whose vector is taken where each text ends."""
    side = job.card.preprocessing.crop or job.card.preprocessing.size
    return (3, side, side) if job.tower == "vision" else None


def _key(job: Job) -> str:
    path = job.network.resolve()
    facts = path.stat()
    what = f"{path}|{facts.st_size}|{facts.st_mtime_ns}|{job.output}|{_FORM}"
    return f"{job.card.name}-{job.tower}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"


def _keep(model: openvino.Model, folder: Path) -> bool:
    """Write the network in one step; False where the disk refuses, which costs only time."""
    temporary = folder.with_name(f"{partial_name()}-{threading.get_ident()}")
    try:
        temporary.mkdir(parents=True)
        openvino.save_model(model, temporary / "network.xml", compress_to_fp16=False)
        for each in temporary.iterdir():
            flush_file(each)  # a power cut could leave a file of the right length full of zeros
        os.replace(temporary, folder)  # noqa: PTH105 - fails when another process was first, which is fine
    except (OSError, RuntimeError):
        shutil.rmtree(temporary, ignore_errors=True)
    return (folder / "network.xml").exists()


def _let_go(model: openvino.Model) -> None:
    """Drop the pages of a mapped network from this process (Linux): OpenVINO holds packed copies of them.

    The file stays mapped and a page that is touched again is read again. Without this, resident memory
    holds every weight twice (795 MB instead of 460 for CLIP ViT-B/32). ``model`` keeps the mapping alive
    meanwhile, so its addresses are nobody else's.
    """
    if sys.platform != "linux":
        return
    large = (each.data for each in model.get_ops() if each.get_type_name() == "Constant")
    address = next((data.ctypes.data for data in large if data.nbytes > _LARGE), 0)
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        span, rights, *_ = line.split(maxsplit=2)
        first, end = (int(each, 16) for each in span.split("-"))
        if first <= address < end and rights.startswith("r--") and line.endswith("/network.bin"):
            ctypes.CDLL(None).madvise(
                ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED
            )
