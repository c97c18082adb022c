"""ClipEncoder: what every encoder does, texts, names, loading late, unloading, threads and forks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import clip_zoo
from reverie import registry
from reverie.encoders.clip import ClipEncoder, VisionEncoder
from reverie.encoders.clip_engines import Job, start
from reverie.errors import (
    ImageError,
    InputError,
    ModelCorruptError,
    ModelError,
    ModelNotFoundError,
    UnknownNameError,
)
from reverie.models.cards import card_of
from reverie.protocols import Encoder, TextEncoder
from reverie.testing import EncoderSuite
from reverie.testing.samples import picture

ENGINES = ["onnxruntime", "openvino", "torch"]
TEXTS = ["an angel", "a city at night", "rust", ""]


class OnTinyClip(EncoderSuite):
    """The suite with a tiny network; the same bits are asked of one thread and of two."""

    variant = ""
    threads = 1

    @pytest.fixture(autouse=True)
    def _folder(self, tiny_folder: Path) -> None:
        self.folder = tiny_folder

    def make(self) -> Encoder:
        """A new encoder."""
        return ClipEncoder(variant=self.variant, model_dir=self.folder, threads=self.threads)


class TestOnnxruntime(OnTinyClip):
    """onnxruntime, one thread."""

    variant = "onnxruntime"


class TestOnnxruntimeOnTwoThreads(OnTinyClip):
    """onnxruntime, two threads."""

    variant, threads = "onnxruntime", 2


class TestOpenVino(OnTinyClip):
    """OpenVINO in fp32."""

    variant, threads = "openvino-fp32", 2


class TestOpenVinoInBf16(OnTinyClip):
    """OpenVINO in bf16."""

    variant = "openvino-bf16"


@pytest.mark.parametrize("variant", ENGINES)
def test_more_frames_than_one_batch(tiny_folder: Path, variant: str) -> None:
    """Frames are handed to the engine a few at a time; rows stay in order (torch: within 1e-6)."""
    encoder = ClipEncoder(variant=variant, model_dir=tiny_folder, threads=1)
    frames = [picture(seed, 40, 30) for seed in range(19)]
    rows = encoder.encode_batch(frames)
    alone = np.concatenate([encoder.encode_batch([frame]) for frame in frames])
    assert float(np.abs(rows - alone).max()) <= (1e-6 if variant == "torch" else 0)


def test_a_frame_must_be_a_picture(tiny_folder: Path) -> None:
    """Floats are refused before the network sees them."""
    with pytest.raises(ImageError, match="dtype uint8"):
        ClipEncoder(model_dir=tiny_folder).encode_batch([np.zeros((8, 8, 3))])


# ------------------------------------------------------------------------------------ texts


def test_texts_are_unit_rows_of_the_same_space(tiny_folder: Path) -> None:
    """``(n, 512)`` float32, the same row alone and in company, an empty text among them."""
    encoder = ClipEncoder(variant="onnxruntime", model_dir=tiny_folder, threads=1)
    rows = encoder.encode_texts(TEXTS * 3)
    assert rows.shape == (12, encoder.dimensions)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.array_equal(rows[:4], rows[4:8])
    assert np.array_equal(rows[1:2], encoder.encode_texts(TEXTS[1:2]))
    assert len(np.unique(rows, axis=0)) == 4


def test_no_texts_need_no_network(tmp_path: Path) -> None:
    """``(0, 512)``, and nothing is looked for."""
    assert ClipEncoder(model_dir=tmp_path / "nowhere").encode_texts([]).shape == (0, 512)


def test_only_a_model_with_texts_encodes_texts(tiny_folder: Path) -> None:
    """VisionEncoder has no encode_texts, so it is no TextEncoder; a text needs the class that has it."""
    assert isinstance(ClipEncoder(), TextEncoder)
    assert isinstance(VisionEncoder("dinov2-base"), Encoder)
    assert not isinstance(VisionEncoder("dinov2-base"), TextEncoder)
    with pytest.raises(InputError, match=r"knows no texts.*VisionEncoder"):
        ClipEncoder("dinov2-base")


def test_text_settings_are_the_cards() -> None:
    """77 tokens and a temperature of 100 for CLIP."""
    settings = ClipEncoder().text_settings
    assert (settings.context, settings.logit_scale) == (77, 100.0)


def test_pictures_need_no_files_of_texts(tiny_folder: Path, tmp_path: Path) -> None:
    """A folder with the vision network alone does for pictures; a text names the files that it lacks."""
    shutil.copy(tiny_folder / "onnx/vision_model.onnx", tmp_path)
    encoder = ClipEncoder(variant="onnxruntime", model_dir=tmp_path, threads=1)
    assert encoder.encode_batch([picture(0)]).shape == (1, 512)
    with pytest.raises(ModelNotFoundError, match=r"text_model\.onnx.*tokenizer\.json"):
        encoder.encode_texts(["an angel"])


# ------------------------------------------------------------------------------------ names


def test_names_tell_spaces_apart(tiny_folder: Path) -> None:
    """fp32 and bf16 share a name, int8 has its own, other weights add 8 digits."""
    assert ClipEncoder().name == "clip-vit-b32"
    assert ClipEncoder(variant="openvino-bf16").name == "clip-vit-b32"
    assert ClipEncoder(variant="int8").name == "clip-vit-b32-int8"
    assert VisionEncoder("dinov2-base").name == "dinov2-base"
    own = ClipEncoder(variant="onnxruntime", model_dir=tiny_folder).name
    assert own.startswith("clip-vit-b32+")
    assert len(own) == len("clip-vit-b32+") + 8
    assert ClipEncoder(variant="onnxruntime-int8", model_dir=tiny_folder).name == own.replace("+", "-int8+")


def test_the_registry_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """``clip:openvino-bf16`` is a name; a wrong model or variant lists what exists."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    encoder = registry.create("encoders", "clip:openvino-bf16", threads=2)
    assert repr(encoder) == "ClipEncoder('clip-vit-b32', 'openvino-bf16')"
    assert encoder.choice.threads == 2
    with pytest.raises(
        InputError, match="no engine or precision 'fast'; there are: onnxruntime, openvino, torch"
    ):
        registry.create("encoders", "clip:fast")
    with pytest.raises(UnknownNameError, match="clip-vit-b32"):
        ClipEncoder("clip-vit-h14")
    with pytest.raises(InputError, match="threads"):
        ClipEncoder(threads=0)


# ------------------------------------------------------------------- loading and unloading


def test_making_one_loads_nothing() -> None:
    """No engine, tokenizer or download library before the first picture."""
    heavy = ["onnxruntime", "openvino", "torch", "transformers", "tokenizers", "huggingface_hub"]
    code = (
        "import sys; from reverie.encoders.clip import ClipEncoder; e = ClipEncoder(); "
        f"e.name, e.dimensions, e.memory(), e.text_settings; print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[0] == "[]"


@pytest.mark.parametrize("variant", ENGINES)
def test_unload_and_load_again(tiny_folder: Path, variant: str) -> None:
    """Nothing is held before and after; the next picture gives the same bits."""
    encoder = ClipEncoder(variant=variant, model_dir=tiny_folder, threads=1)
    assert encoder.memory() == 0
    rows = encoder.encode_batch([picture(0)])
    held = encoder.memory()
    encoder.encode_texts(["an angel"])
    assert 0 < held < encoder.memory()
    encoder.unload()
    assert encoder.memory() == 0
    assert np.array_equal(encoder.encode_batch([picture(0)]), rows)
    encoder.unload()
    encoder.unload()


def test_a_network_that_is_not_there(tmp_path: Path) -> None:
    """The first picture says what was looked for."""
    encoder = ClipEncoder(variant="onnxruntime", model_dir=tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"vision_model\.onnx"):
        encoder.encode_batch([picture(0)])


@pytest.mark.parametrize("variant", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("broken", ["cut", "text", "empty"])
def test_a_file_that_is_no_vision_network(
    clip_home: Path, tiny_folder: Path, tmp_path: Path, variant: str, broken: str
) -> None:
    """A cut file, the text network and an empty file are each refused with the file's name."""
    target = tmp_path / "vision_model.onnx"
    network = (tiny_folder / "onnx/vision_model.onnx").read_bytes()
    text = (tiny_folder / "onnx/text_model.onnx").read_bytes()
    target.write_bytes({"cut": network[: len(network) // 2], "text": text, "empty": b""}[broken])
    encoder = ClipEncoder(variant=variant, model_dir=tmp_path, threads=1)
    with pytest.raises(ModelCorruptError, match=r"vision_model\.onnx"):
        encoder.encode_batch([picture(0)])


def test_torch_weights_that_are_no_network(tiny_folder: Path, tmp_path: Path) -> None:
    """A cut weight file, weights of another network and an unknown kind of model are refused."""
    shutil.copy(tiny_folder / "config.json", tmp_path)
    target = tmp_path / "pytorch_model.bin"
    target.write_bytes((tiny_folder / "pytorch_model.bin").read_bytes()[:5000])
    with pytest.raises(ModelCorruptError, match="cannot load"):
        ClipEncoder(variant="torch", model_dir=tmp_path, threads=1).encode_batch([picture(0)])
    import torch

    torch.save({"something": torch.zeros(3)}, target)
    with pytest.raises(ModelCorruptError, match=r"lacks .* weights"):
        ClipEncoder(variant="torch", model_dir=tmp_path, threads=1).encode_batch([picture(0)])
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelCorruptError, match="of a 'bert'"):
        ClipEncoder(variant="torch", model_dir=tmp_path, threads=1).encode_batch([picture(0)])


@pytest.mark.parametrize("variant", ENGINES)
def test_a_network_of_another_length(clip_home: Path, tmp_path: Path, variant: str) -> None:
    """Vectors of 64 numbers are not those of CLIP ViT-B/32."""
    clip_zoo.clip(tmp_path, clip_zoo.TINY, clip_zoo.TINY, projection=64)
    with pytest.raises(ModelError, match=r"gave \(1, 64\).*not CLIP ViT-B/32"):
        ClipEncoder(variant=variant, model_dir=tmp_path, threads=1).encode_batch([picture(0)])


@pytest.mark.parametrize("variant", ENGINES)
def test_pictures_of_another_size_than_the_networks(tiny_folder: Path, variant: str) -> None:
    """A network for 224 pixels that is handed 256 fails with the sizes, not with a crash."""
    card = card_of("clip-vit-b32")
    files = {name: tiny_folder / name for name in (card.onnx.vision[0], "config.json")}
    engine = start(variant, Job(card, "vision", files, "fp32", 1))
    with pytest.raises(ModelError, match=r"cannot run the network on \(1, 3, 256, 256\)"):
        engine.run(np.zeros((1, 3, 256, 256), np.float32))


# ------------------------------------------------------------------------- threads and forks


@pytest.mark.parametrize("variant", ENGINES)
def test_four_threads_at_once(tiny_folder: Path, variant: str) -> None:
    """Rows belong to the frames that were handed in, whoever asks meanwhile."""
    encoder = ClipEncoder(variant=variant, model_dir=tiny_folder, threads=1)
    frames = [[picture(10 * part + at) for at in range(3)] for part in range(4)]
    alone = [encoder.encode_batch(some) for some in frames]
    encoder.unload()
    found: dict[int, list[np.ndarray]] = {part: [] for part in range(4)}

    def work(part: int) -> None:
        for _ in range(5):
            found[part].append(encoder.encode_batch(frames[part]))

    workers = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for part in range(4):
        assert [np.array_equal(rows, alone[part]) for rows in found[part]] == [True] * 5


_FORK = """
import os, sys
import numpy as np
from reverie.encoders.clip import ClipEncoder
from reverie.testing.samples import picture
encoder = ClipEncoder(variant=sys.argv[1], model_dir=sys.argv[2], threads=2)
rows = encoder.encode_batch([picture(0)])
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(encoder.encode_batch([picture(0)]), rows) else 3)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(encoder.encode_batch([picture(0)]), rows)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize("variant", ["onnxruntime", "openvino"])
def test_a_forked_child_loads_its_own(tiny_folder: Path, variant: str) -> None:
    """After fork the child encodes too, instead of waiting for threads that stayed in its parent."""
    command = [sys.executable, "-W", "ignore", "-c", _FORK, variant, str(tiny_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
