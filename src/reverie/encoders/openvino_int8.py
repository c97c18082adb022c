"""int8 for OpenVINO: whole-number weights, and scales of activations that are found anew for every token.

Each product of activations and weights becomes one of whole numbers. A weight matrix has one scale for each
of its columns. Activations get a scale for every 128 values of every token while the network runs (OpenVINO's
dynamic quantisation), so no range has to be guessed from pictures, and a row does not depend on its batch.

What would spoil such scales are the few channels of trained transformers that are many times larger than the
others. They are made smaller, and their weights larger by the same factor, which changes no product
(SmoothQuant, Xiao et al. 2023, equation 4 with alpha .5); how large channels get is seen on pictures.

On a random ViT-B/32, and on one with four channels of each layer norm 20 to 60 times as large as the others,
for pictures that were not used here: cosine to fp32 at least .9996, similarities of pairs moved by .005 at
most. Static ranges, as nncf makes them, gave .98 and .12 at the same speed. Processors without VNNI
calculate in fp32 with these weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from reverie.encoders.openvino_engine import cut
from reverie.errors import ModelCorruptError

__all__ = ["quantise_network"]

_ALPHA = 0.5  # how much of the difference between channels goes into the weights
_LEAST = 1e-3  # of the largest channel: what no picture showed is not taken for zero
_LEVELS = 127


def quantise_network(network: Path, output: str, inputs: Sequence[NDArray[np.float32]], target: Path) -> None:
    """Write an int8 network (``target``, ending in .xml, and the weights beside it).

    Args:
        network: The fp32 ONNX file.
        output: The output to keep.
        inputs: Arrays ``(1, 3, s, s)`` float32, at least one; more show more of the largest channels.
        target: A file that does not exist.

    Raises:
        ModelCorruptError: ``network`` is not a network with that output, or has nothing to quantise.
    """
    core = openvino.Core()
    model = cut(core, network, output, inputs[0].shape[1:])
    _patches_as_rows(model)
    groups = _products(model)
    if not groups:
        raise ModelCorruptError(f"{str(network)!r} holds no products with weights: nothing becomes int8")
    for group, largest in zip(groups, _largest(core, model, groups, inputs), strict=True):
        _quantise(group, largest)
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, target, compress_to_fp16=False)


def _patches_as_rows(model: openvino.Model) -> None:
    """Make the convolution that cuts a picture into patches a product, which can be int8."""
    for node in model.get_ordered_ops():
        weights = node.input_value(1).get_node() if node.get_type_name() == "Convolution" else None
        if weights is not None and weights.get_type_name() == "Constant" and _is_grid(node, weights.data):
            openvino.utils.replace_node(node, _rows_of(node, weights.data))
    model.validate_nodes_and_infer_types()


def _is_grid(node: openvino.Node, weights: NDArray[np.float32]) -> bool:
    """Whether a convolution looks at each pixel once: steps as large as its kernel, and no border."""
    about, kernel = node.get_attributes(), list(weights.shape[2:])
    before, after = node.input_value(0).get_partial_shape(), node.output(0).get_partial_shape()
    if len(kernel) != 2 or before.rank.is_dynamic or any(each.is_dynamic for each in list(before)[1:]):
        return False
    sides = [after[2].get_length() * kernel[0], after[3].get_length() * kernel[1]]
    return (
        list(about["strides"]) == kernel
        and not any([*about["pads_begin"], *about["pads_end"]])
        and all(each == 1 for each in about["dilations"])
        and sides == [before[2].get_length(), before[3].get_length()]
    )


def _rows_of(node: openvino.Node, weights: NDArray[np.float32]) -> openvino.Node:
    """The same ``(n, d, down, across)`` from one row for each patch."""
    channels, depth, high, wide = weights.shape
    down, across = (node.output(0).get_partial_shape()[at].get_length() for at in (2, 3))
    parts = _reshaped(node.input_value(0), [0, depth, down, high, across, wide])
    rows = _reshaped(
        _transposed(parts, [0, 2, 4, 1, 3, 5]).output(0), [0, down * across, depth * high * wide]
    )
    found = ops.matmul(rows, np.ascontiguousarray(weights.reshape(channels, -1).T), False, False)
    return _reshaped(_transposed(found, [0, 2, 1]).output(0), [0, channels, down, across])


def _reshaped(value: openvino.Output, shape: list[int]) -> openvino.Node:
    return ops.reshape(value, np.array(shape, np.int64), special_zero=True)


def _transposed(value: openvino.Node, order: list[int]) -> openvino.Node:
    return ops.transpose(value, np.array(order, np.int64))


def _products(model: openvino.Model) -> list[list[openvino.Node]]:
    """Products with constant weights, those of the same activations together."""
    groups: dict[tuple[str, int], list[openvino.Node]] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and _has_weights(node):
            source = node.input_value(0)
            groups.setdefault((source.get_node().get_name(), source.get_index()), []).append(node)
    return list(groups.values())


def _has_weights(node: openvino.Node) -> bool:
    left, right = node.input_value(0), node.input_value(1)
    return (
        right.get_node().get_type_name() == "Constant"
        and len(right.get_partial_shape()) == 2
        and right.get_element_type() == openvino.Type.f32
        and not left.get_partial_shape().rank.is_dynamic
        and not node.get_attributes()["transpose_a"]
    )


def _largest(
    core: openvino.Core,
    model: openvino.Model,
    groups: Iterable[list[openvino.Node]],
    inputs: Sequence[NDArray[np.float32]],
) -> list[NDArray[np.float32]]:
    """For each group the largest size that every channel of its activations reached."""
    sizes = []
    for source in (group[0].input_value(0) for group in groups):
        others = np.arange(len(source.get_partial_shape()) - 1)
        sizes.append(ops.result(ops.reduce_max(ops.abs(source), others)))
    watching = openvino.Model(sizes, model.get_parameters(), "sizes").clone()
    request = core.compile_model(watching, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    seen = [[np.array(each) for each in request.infer([value]).to_tuple()] for value in inputs]
    return [np.max(each, axis=0) for each in zip(*seen, strict=True)]


def _quantise(group: list[openvino.Node], largest: NDArray[np.float32]) -> None:
    """Put whole numbers in the place of the weights that the same activations meet."""
    matrices = [_matrix(node) for node in group]
    heaviest = np.max([np.abs(each).max(axis=1) for each in matrices], axis=0)
    smooth = (_floored(largest) ** _ALPHA / _floored(heaviest) ** (1 - _ALPHA)).astype(np.float32)
    values = ops.multiply(group[0].input_value(0), 1 / smooth)
    for node, matrix in zip(group, matrices, strict=True):
        openvino.utils.replace_node(
            node, ops.matmul(values, _whole_numbers(matrix * smooth[:, None]), False, False)
        )


def _matrix(node: openvino.Node) -> NDArray[np.float32]:
    """Weights ``(channels in, channels out)``."""
    data: NDArray[np.float32] = node.input_value(1).get_node().data
    return data.T if node.get_attributes()["transpose_b"] else data


def _floored(sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(sizes, max(float(sizes.max()) * _LEAST, float(np.finfo(np.float32).tiny)))


def _whole_numbers(matrix: NDArray[np.float32]) -> openvino.Node:
    """int8 weights and a scale for each column, multiplied back when the network runs."""
    scale = _floored(np.abs(matrix).max(axis=0, keepdims=True)) / _LEVELS
    whole = np.rint(matrix / scale).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(whole), "f32"), scale.astype(np.float32))
