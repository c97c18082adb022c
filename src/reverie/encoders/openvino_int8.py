"""int8 for OpenVINO: post-training quantisation by nncf, on pictures of the user."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

# nncf reports its use to its maker, unless this stands when it is imported.
os.environ.setdefault("NNCF_CI", "1")

import nncf
import numpy as np
import openvino
from numpy.typing import NDArray

from reverie.encoders.openvino_engine import cut

__all__ = ["quantise_network"]


def quantise_network(network: Path, output: str, inputs: Sequence[NDArray[np.float32]], target: Path) -> None:
    """Write an int8 network (``target``, ending in .xml, and the weights beside it).

    Weights and activations become int8 with the ranges seen in ``inputs``. Outliers of activations, which
    transformers have, are moved into the weights first (SmoothQuant, Xiao et al. 2023); quantised are the
    matrix products, everything between stays as it was.

    Args:
        network: The fp32 ONNX file.
        output: The output to keep.
        inputs: Arrays ``(1, 3, s, s)`` float32, at least one.
        target: A file that does not exist.

    Raises:
        ModelCorruptError: ``network`` is not a network with that output.
    """
    model = cut(openvino.Core(), network, output)
    name = model.inputs[0].any_name
    with _quiet():
        small = nncf.quantize(
            model,
            nncf.Dataset([{name: each} for each in inputs]),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(inputs),
            fast_bias_correction=True,
        )
    openvino.save_model(small, target, compress_to_fp16=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Bars on a terminal's standard error alone, no notes: standard output is the caller's."""
    log: Any = logging.getLogger("nncf")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):
            yield
    finally:
        log.setLevel(before)
