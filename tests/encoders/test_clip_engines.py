"""Which engine is picked and why, threads, and what each engine leaves in the process and on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reverie.encoders import clip_engines, openvino_engine, torch_engine
from reverie.encoders.clip import ClipEncoder
from reverie.encoders.clip_engines import EngineFacts, choose, default_threads, engine_report
from reverie.errors import InputError, MissingDependencyError
from reverie.testing.samples import picture

OFFERS = {
    "onnxruntime": EngineFacts("1", ("cpu",), ("fp32", "int8"), "fp32 is exact"),
    "openvino": EngineFacts("2", ("cpu",), ("bf16", "fp32", "int8"), "bf16 is fast here"),
    "torch": EngineFacts("3", ("cpu",), ("fp32", "bf16"), "fp32 is exact"),
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``machine(*installed, gpu={}, loaded=(), processor="x86_64")``: stands in for this one."""

    def build(
        *installed: str,
        gpu: dict[str, str] | None = None,
        loaded: bool = False,
        processor: str = "x86_64",
        amx: bool = True,
    ) -> None:
        def facts(engine: str) -> EngineFacts:
            offer = OFFERS[engine]
            devices = ((gpu or {})[engine], "cpu") if engine in (gpu or {}) else offer.devices
            return EngineFacts(offer.version, devices, offer.precisions, offer.why)

        monkeypatch.setattr(clip_engines, "installed", lambda engine: engine in installed)
        monkeypatch.setattr(clip_engines, "facts_of", facts)
        monkeypatch.setattr(clip_engines.platform, "machine", lambda: processor)
        monkeypatch.setattr(clip_engines, "bf16_pays", lambda: amx)
        if loaded:
            monkeypatch.setitem(sys.modules, "torch", sys)
        else:
            monkeypatch.delitem(sys.modules, "torch", raising=False)

    return build


def test_openvino_on_x86(machine: Callable[..., None]) -> None:
    """On an x86 processor that is fast in bf16 OpenVINO goes before onnxruntime."""
    machine("onnxruntime", "openvino", "torch")
    found = choose()
    assert (found.engine, found.precision, found.device) == ("openvino", "bf16", "cpu")
    assert found.reason == "OpenVINO is the fastest in bf16 on x86 processors; bf16 is fast here"


def test_onnxruntime_elsewhere(machine: Callable[..., None]) -> None:
    """On another processor, without bf16 and where OpenVINO is not installed: onnxruntime in fp32."""
    machine("onnxruntime", "openvino", processor="arm64")
    assert (choose().engine, choose().precision) == ("onnxruntime", "fp32")
    machine("onnxruntime")
    assert choose().engine == "onnxruntime"
    machine("onnxruntime", "openvino", amx=False)
    assert (choose().engine, choose().reason) == ("onnxruntime", "onnxruntime runs everywhere; fp32 is exact")
    machine("openvino", processor="arm64")
    assert choose().engine == "openvino"


def test_a_gpu_of_onnxruntime(machine: Callable[..., None]) -> None:
    """CUDA, DirectML and CoreML go before the processor, and are named."""
    machine("onnxruntime", "openvino", gpu={"onnxruntime": "directml"})
    assert (choose().engine, choose().device) == ("onnxruntime", "directml")
    assert choose().reason == "onnxruntime offers directml; fp32 is exact"


def test_torch_only_when_it_is_loaded_already(machine: Callable[..., None]) -> None:
    """A process that holds torch and sees a GPU uses both; else torch comes last."""
    machine("onnxruntime", "openvino", "torch", gpu={"torch": "cuda"}, loaded=True)
    assert (choose().engine, choose().device) == ("torch", "cuda")
    machine("onnxruntime", "openvino", "torch", gpu={"torch": "cuda"})
    assert choose().engine == "openvino"
    machine("onnxruntime", "openvino", "torch", loaded=True)
    assert choose().engine == "openvino"
    machine("torch")
    assert choose().reason == "only torch is installed; fp32 is exact"


def test_a_precision_alone_picks_an_engine_that_has_it(machine: Callable[..., None]) -> None:
    """int8 and bf16 are never run by an engine without them; nothing picks int8 by itself."""
    machine("onnxruntime", "torch")
    assert (choose("bf16").engine, choose("int8").engine) == ("torch", "onnxruntime")
    machine("onnxruntime", "openvino", "torch")
    assert (choose("int8").engine, choose("bf16").engine) == ("openvino", "openvino")
    assert choose("int8").reason == "OpenVINO is the fastest in int8 on x86 processors; int8 was asked for"
    assert choose("fp32").reason == "onnxruntime runs everywhere; fp32 was asked for"
    machine("onnxruntime")
    with pytest.raises(MissingDependencyError, match=r"bf16 needs openvino or torch.*pip install.* openvino"):
        choose("bf16")
    machine("torch")
    with pytest.raises(MissingDependencyError, match=r"int8 needs .*pip install .* openvino$"):
        choose("int8")


def test_no_engine(machine: Callable[..., None]) -> None:
    """Without any engine the error says what brings one, and what needs none."""
    machine()
    with pytest.raises(MissingDependencyError, match=r'pip install "reverie\[clip\]".*descriptor'):
        choose()
    rows = engine_report()
    assert [row["version"] for row in rows] == [None, None, None]
    assert [row["picked"] for row in rows] == [False, False, False]
    assert all(row["install"].startswith("pip install") for row in rows)


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name it is an error with the line that installs it, also when its library is broken."""
    monkeypatch.setattr(clip_engines, "installed", lambda engine: engine != "openvino")
    with pytest.raises(
        MissingDependencyError, match=r'openvino is not installed: pip install "reverie\[clip\]" openvino'
    ):
        choose("openvino")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "reverie.encoders.openvino_engine", None)
    with pytest.raises(
        MissingDependencyError, match=r"openvino cannot be loaded \(.*pip install .* openvino"
    ):
        choose("openvino-fp32")


@pytest.mark.parametrize(
    "variant", ["fast", "openvino-fp16", "onnxruntime-bf16", "torch-int8", "-", "bf16-openvino"]
)
def test_an_unknown_variant(variant: str) -> None:
    """Every variant that exists is listed."""
    with pytest.raises(InputError, match=r"there are: onnxruntime, .*openvino-bf16"):
        choose(variant)


def test_this_machine_can_be_asked() -> None:
    """The report has a row for every engine, one of them picked for a reason."""
    rows = {row["engine"]: row for row in engine_report()}
    assert list(rows) == ["onnxruntime", "openvino", "torch"]
    picked = [row for row in rows.values() if row["picked"]]
    assert len(picked) == 1
    assert picked[0]["why"]
    assert rows["onnxruntime"]["version"][0].isdigit()
    assert "cpu" in rows["openvino"]["devices"]
    assert rows["torch"]["precisions"] == ["fp32", "bf16"]


def test_the_report_does_not_import_torch() -> None:
    """It takes seconds: its devices are left open until a process holds it."""
    code = (
        "import sys; from reverie.encoders.clip_engines import engine_report as report; "
        "print(report()[2]['devices'], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "['known once torch is loaded'] False\n"


# ---------------------------------------------------------------------------------- threads


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument first, then REVERIE_THREADS, then the cores, 8 at most; no more than can run at once."""
    monkeypatch.delenv("REVERIE_THREADS", raising=False)
    assert 1 <= default_threads() <= min(8, os.cpu_count() or 1)
    monkeypatch.setattr(clip_engines, "_cores", lambda: 64)
    assert default_threads() == 8
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setenv("REVERIE_THREADS", "3")
    assert default_threads() == 3
    assert choose("onnxruntime").threads == 3
    assert choose("onnxruntime", 5).threads == 5
    assert choose("onnxruntime", 99_999).threads == 16
    monkeypatch.setenv("REVERIE_THREADS", "99999")
    assert default_threads() == 16


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_threads(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """What is not a whole number from 1 up is named, with the variable."""
    monkeypatch.setenv("REVERIE_THREADS", value)
    with pytest.raises(InputError, match="REVERIE_THREADS must be a whole number from 1 up"):
        default_threads()


def test_torch_keeps_its_own_number_of_threads(tiny_folder: Path) -> None:
    """The process may run its generator on torch: the number it set is the number it has afterwards."""
    torch = torch_engine.torch
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen = []
    encoder = ClipEncoder(variant="torch", model_dir=tiny_folder, threads=1)
    encoder.encode_batch([picture(0)])
    module = encoder._vision._engine._module
    module.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    encoder.encode_batch([picture(0)])
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (seen, after) == ([1], 2)


# --------------------------------------------------------------------------------- OpenVINO


@pytest.mark.parametrize(
    ("flags", "pays"),
    [
        ("GenuineIntel avx512_bf16 amx_bf16", True),
        ("GenuineIntel avx512_bf16", False),
        ("AuthenticAMD avx512_bf16", True),
        ("AuthenticAMD avx2", False),
        ("", True),
    ],
)
def test_when_bf16_is_worth_it(flags: str, pays: bool) -> None:
    """With Intel's matrix unit, on AMD since Zen 4, and where the system says nothing."""
    assert clip_engines.bf16_pays(flags) is pays


@pytest.fixture
def kept(clip_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of OpenVINO's own."""
    monkeypatch.setattr(openvino_engine, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


def rows_of(folder: Path) -> np.ndarray:
    """What a new encoder gives for one picture."""
    return ClipEncoder(variant="openvino-fp32", model_dir=folder, threads=1).encode_batch([picture(0)])


def test_the_second_start_reads_the_kept_network(
    tiny_folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ONNX file is read once; the same bits come from what was kept, and nothing else is left there."""
    rows = rows_of(tiny_folder)
    (folder,) = kept.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["network.bin", "network.xml"]
    monkeypatch.setattr(openvino_engine, "cut", None)
    assert np.array_equal(rows_of(tiny_folder), rows)


@pytest.mark.parametrize("name", ["network.xml", "network.bin"])
def test_a_damaged_kept_network_is_made_anew(tiny_folder: Path, kept: Path, name: str) -> None:
    """A file cut short is thrown away; the next start keeps a sound one."""
    rows = rows_of(tiny_folder)
    network = next(kept.iterdir()) / name
    network.write_bytes(network.read_bytes()[:500])
    assert np.array_equal(rows_of(tiny_folder), rows)
    assert list(kept.iterdir()) == []
    assert np.array_equal(rows_of(tiny_folder), rows)
    assert network.stat().st_size > 500


def test_a_cache_that_cannot_be_written(tiny_folder: Path, kept: Path) -> None:
    """Where nothing can be kept, the ONNX file is read every time."""
    kept.parent.mkdir()
    kept.write_text("in the way")
    assert rows_of(tiny_folder).shape == (1, 512)
    assert kept.read_text() == "in the way"


def test_a_changed_onnx_file_is_read_again(tiny_folder: Path, kept: Path, tmp_path: Path) -> None:
    """Another file under the same path has another place in the cache."""
    source = (tiny_folder / "onnx/vision_model.onnx").read_bytes()
    target = tmp_path / "vision_model.onnx"
    for mtime in (1_000_000_000, 2_000_000_000):
        target.write_bytes(source)
        os.utime(target, (mtime, mtime))
        rows_of(tmp_path)
    assert len(list(kept.iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say which pages are resident")
def test_mapped_weights_do_not_stay_resident(tiny_folder: Path, kept: Path) -> None:
    """After the first picture no page of the kept file is held: OpenVINO has its own copy of the weights."""
    encoder = ClipEncoder(variant="openvino-fp32", model_dir=tiny_folder, threads=1)
    first = encoder.encode_batch([picture(0)])
    lines = Path("/proc/self/smaps").read_text().splitlines()
    mapped = [at for at, line in enumerate(lines) if line.endswith("network.bin") and str(kept) in line]
    resident = [next(line for line in lines[at:] if line.startswith("Rss:")).split()[1] for at in mapped]
    assert sum(map(int, resident)) == 0
    assert np.array_equal(encoder.encode_batch([picture(0)]), first)


# ------------------------------------------------------------------------------------ privacy


def test_onnxruntime_does_not_report_home(tmp_path: Path) -> None:
    """It sends figures of use to its maker on some systems, unless a variable stands when it is imported."""
    variable = "ORT_DISABLE_TELEMETRY"
    (tmp_path / "onnxruntime.py").write_text(f"import os, sys; print(os.environ['{variable}']); sys.exit()")
    environment = {name: value for name, value in os.environ.items() if name != variable}
    done = subprocess.run(
        [sys.executable, "-c", "import reverie.encoders.onnx_engine"],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "1\n"
