"""What a vector does not depend on is left out of a network, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from reverie.encoders.openvino_engine import cut
from reverie.encoders.openvino_int8 import quantise_network
from reverie.encoders.openvino_tail import first_token, only_the_first_token
from reverie.errors import ModelCorruptError

ROW = (3, 224, 224)
TOKENS, WIDTH = 5, 8


def run(model: openvino.Model, *values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a network gives, in float32."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return np.array(openvino.Core().compile_model(model, "CPU", settings)(list(values))[0])


def block(*, taken: int | None) -> openvino.Model:
    """Attention, then a product for each token, ``(n, 5, 8)``; of the result one token or all."""
    rng = np.random.default_rng(0)
    weights = [ops.constant(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32)) for _ in range(4)]
    given = ops.parameter([-1, TOKENS, WIDTH], np.float32)
    query, key, value = (ops.matmul(given, each, False, False) for each in weights[:3])
    seen = ops.softmax(ops.matmul(query, key, False, True), 2)
    mixed = ops.matmul(seen, value, False, False)
    found = ops.add(ops.gelu(ops.matmul(mixed, weights[3], False, False), "ERF"), given)
    if taken is not None:
        found = ops.gather(found, ops.constant(np.int64(taken)), ops.constant(np.int64(1)))
    return openvino.Model([found], [given], "block")


def products(model: openvino.Model) -> list[list[int]]:
    """Shapes of the results of all products, without the batch; -1 for a length that is not known."""
    found = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    shapes = [list(node.output(0).get_partial_shape())[1:] for node in found]
    return [[-1 if each.is_dynamic else each.get_length() for each in shape] for shape in shapes]


def test_one_token_needs_one_row() -> None:
    """Queries, their row of attention and what follows shrink; keys and values are needed of all tokens."""
    whole, short = block(taken=0), block(taken=0)
    assert only_the_first_token(short) == 4
    assert sorted(products(short)) == [[1, TOKENS], [1, WIDTH], [1, WIDTH], [1, WIDTH], [5, 8], [5, 8]]
    values = np.random.default_rng(1).standard_normal((3, TOKENS, WIDTH)).astype(np.float32)
    assert np.allclose(run(short, values), run(whole, values), atol=1e-6)


@pytest.mark.parametrize("taken", [None, 2])
def test_what_is_used_stays(taken: int | None) -> None:
    """All tokens, or another than the first: the network is as it was."""
    model = block(taken=taken)
    before = products(model)
    assert only_the_first_token(model) == 0
    assert products(model) == before


def test_a_value_that_is_used_twice() -> None:
    """A second result that needs all tokens keeps what both depend on."""
    model = block(taken=0)
    whole = model.outputs[0].get_node().input_value(0).get_node().input_value(0)
    both = openvino.Model([model.outputs[0].get_node().input_value(0), whole], model.get_parameters(), "both")
    assert only_the_first_token(both) == 0


def test_hidden_states_become_vectors() -> None:
    """Of ``(n, tokens, d)`` the first token is taken; vectors stay."""
    states, vectors = (ops.parameter(shape, np.float32) for shape in ([-1, TOKENS, WIDTH], [-1, WIDTH]))
    assert list(first_token(states.output(0)).get_partial_shape())[1:] == [openvino.Dimension(WIDTH)]
    assert first_token(vectors.output(0)).get_node().get_name() == vectors.get_name()


@pytest.mark.parametrize("output", ["image_embeds", "last_hidden_state"])
def test_the_network_of_a_model_is_shortened(tiny_folder: Path, output: str) -> None:
    """The last block of a real export has products of one token; its vectors are those of the whole."""
    network, core = tiny_folder / "onnx/vision_model.onnx", openvino.Core()
    whole, short = cut(core, network, output), cut(core, network, output, ROW)
    whole.reshape([-1, *ROW])
    assert sum(1 in shape for shape in products(short)) > sum(1 in shape for shape in products(whole))
    values = np.random.default_rng(0).standard_normal((2, *ROW)).astype(np.float32)
    found, expected = run(short, values), run(whole, values)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_network_that_takes_other_pictures(tiny_folder: Path) -> None:
    """Pictures of a size that it was not made for are an error of ours."""
    with pytest.raises(ModelCorruptError, match="OpenVINO cannot read"):
        cut(openvino.Core(), tiny_folder / "onnx/vision_model.onnx", "image_embeds", (3, 64, 64))


def test_a_network_without_weights_is_not_quantised(tmp_path: Path) -> None:
    """int8 of nothing would be fp32 under a wrong name."""
    given = ops.parameter([-1, *ROW], np.float32)
    mean = ops.reduce_mean(given, ops.constant(np.array([2, 3])))
    mean.output(0).set_names({"image_embeds"})
    openvino.save_model(openvino.Model([mean], [given], "means"), tmp_path / "means.xml")
    inputs = [np.zeros((1, *ROW), np.float32)]
    with pytest.raises(ModelCorruptError, match="no products with weights"):
        quantise_network(tmp_path / "means.xml", "image_embeds", inputs, tmp_path / "int8.xml")
    assert not (tmp_path / "int8.xml").exists()
