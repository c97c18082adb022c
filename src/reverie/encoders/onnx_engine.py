"""The engine onnxruntime: runs everywhere, on the CPU or through CUDA, DirectML or CoreML."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

# onnxruntime reports its use to its maker, unless this stands when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from reverie.encoders.clip_engines import EngineFacts
from reverie.errors import ModelCorruptError, ModelError

if TYPE_CHECKING:
    from reverie.encoders.clip_engines import Job

__all__ = ["OnnxEngine", "facts", "quantise_network"]

_PROVIDERS = {
    "CUDAExecutionProvider": "cuda",
    "DmlExecutionProvider": "directml",
    "CoreMLExecutionProvider": "coreml",
    "CPUExecutionProvider": "cpu",
}
"""Best first; TensorRT is passed over, it compiles for minutes."""

_FAILURES = (
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile,
    onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
)
_QUIET = 3  # errors only: it warns of every layer that one provider leaves to another


def facts() -> EngineFacts:
    """What this installation offers."""
    offered = [_PROVIDERS[name] for name in _providers()]
    return EngineFacts(onnxruntime.__version__, tuple(offered), ("fp32", "int8"), "fp32 is exact")


def _providers() -> list[str]:
    offered = onnxruntime.get_available_providers()
    return [name for name in _PROVIDERS if name in offered]


class OnnxEngine:
    """One network in an onnxruntime session; implements `reverie.encoders.clip_engines.Engine`.

    The same row gives the same bits in every batch on the CPU.

    Raises:
        ModelCorruptError: The file is not such a network.
    """

    def __init__(self, job: Job) -> None:
        try:
            self._session = onnxruntime.InferenceSession(
                job.network, _options(job.threads), providers=_providers()
            )
        except _FAILURES as exc:
            raise ModelCorruptError(f"onnxruntime cannot load {str(job.network)!r}: {exc}") from exc
        outputs = [each.name for each in self._session.get_outputs()]
        if job.output not in outputs:
            raise ModelCorruptError(
                f"{str(job.network)!r} has no output {job.output!r}, only {', '.join(outputs)}: "
                f"it is not the {job.tower} network of {job.card.name}"
            )
        self._output = job.output
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._bytes = job.network.stat().st_size
        self.device = _PROVIDERS[self._session.get_providers()[0]]
        self.batch = 8 if self.device == "cpu" else 64
        if job.precision == "int8":
            self.batch = 1  # its scales are taken over a whole batch: a row would depend on its company

    def run(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """The vectors ``(n, d)`` of n inputs; raises ModelError when the network cannot take them."""
        try:
            found: NDArray[np.float32] = self._session.run([self._output], self._feeds(values))[0]
        except _FAILURES as exc:
            raise ModelError(f"onnxruntime cannot run the network on {values.shape}: {exc}") from exc
        return found if found.ndim == 2 else found[:, 0]  # of hidden states the class token

    def _feeds(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        # Some exports of text networks also ask which tokens count. All may: what follows a text's end
        # is behind a causal mask.
        return {name: np.ones_like(values) if name == "attention_mask" else values for name in self._inputs}

    def memory(self) -> int:
        """Size of the weights: onnxruntime counts nothing for the CPU."""
        return self._bytes


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _QUIET
    # An idle loop between two frames would take a core from the generator.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights are packed for the processor at the start: the unpacked ones need not stay in the arena.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    if "DmlExecutionProvider" in _providers():
        options.enable_mem_pattern = False  # DirectML asks for it
    return options


def quantise_network(network: Path, target: Path) -> None:
    """Write ``network`` with int8 weights; activations are scaled anew in every call (no pictures needed).

    Where this processor adds two products in 16 bits and cuts what is too large, weights get 7 bits: without
    that, a vector would differ from the one of a processor with VNNI by up to ten times what int8 costs.

    Raises:
        ImportError: The library ``onnx`` is not installed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - needs onnx

    with _quiet():
        quantize_dynamic(
            network,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=_saturates(),
            op_types_to_quantize=["MatMul", "Gemm"],
        )


def _saturates() -> bool:
    """Whether a product of the largest uint8 and int8 numbers comes out too small on this processor."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - only where int8 is made

    depth = 64
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "weights"], ["product"])],
        "probe",
        [helper.make_tensor_value_info("rows", TensorProto.UINT8, [1, depth])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [1, depth])],
        [numpy_helper.from_array(np.full((depth, depth), 127, np.int8), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _options(threads=1), providers=["CPUExecutionProvider"]
    )
    found: NDArray[np.int32] = session.run(None, {"rows": np.full((1, depth), 255, np.uint8)})[0]
    return bool(found.min() < 255 * 127 * depth)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice to prepare the network first: that changes nothing for this kind of int8."""
    root = logging.getLogger()
    root.addFilter(_no_advice)
    try:
        yield
    finally:
        root.removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.msg
