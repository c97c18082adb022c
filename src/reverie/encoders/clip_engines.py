"""Which engine runs a network, in which precision, with how many threads, and why.

Three engines do the same work: onnxruntime, OpenVINO and torch. Each is one module that alone imports its
library and is loaded by name, so nothing here costs more than the engine that is used. A variant names
the engine, the precision, or both: ``""`` (automatic), ``"openvino"``, ``"bf16"``, ``"openvino-bf16"``.

Without a name the first of these that is there is taken:

1. torch, when this process imported it already and it sees a GPU: a second library would take memory twice;
2. onnxruntime, when it offers CUDA, DirectML or CoreML;
3. OpenVINO on an x86 processor that multiplies matrices in bf16;
4. onnxruntime on the CPU, in fp32;
5. OpenVINO; 6. torch.

int8 is never taken without being named: its errors can move entries across a threshold.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InputError, MissingDependencyError
from reverie.models.cards import ModelCard

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Choice",
    "Engine",
    "EngineFacts",
    "Job",
    "Tower",
    "bf16_pays",
    "choose",
    "default_threads",
    "engine_report",
    "facts_of",
    "family_of",
    "start",
    "variants",
]

Tower: TypeAlias = Literal["vision", "text"]

PRECISIONS = ("fp32", "bf16", "int8")
"""What numbers the products are made of: exact, about three digits, one of 255 levels."""

_MOST_THREADS = 8  # a picture of 50 patches gains nothing from more
_X86 = ("x86_64", "amd64", "i386", "i686", "x86")


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an installed engine offers on this machine; found without loading a model.

    Attributes:
        version: Of its library.
        devices: What it can run on, the one it would use first.
        precisions: From `PRECISIONS`, the one it would use by itself first.
        why: Why that precision, in words.
    """

    version: str
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Job:
    """One network for an engine to load.

    Attributes:
        card: The model.
        tower: ``"vision"`` or ``"text"``.
        files: By name in the card; for int8 the first file of the tower is the quantised network.
        precision: From `PRECISIONS`.
        threads: Threads it may use on the CPU.
    """

    card: ModelCard
    tower: Tower
    files: Mapping[str, Path]
    precision: str
    threads: int

    @property
    def network(self) -> Path:
        """The ONNX file (or the network made from it)."""
        source = self.card.onnx
        return self.files[(source.vision if self.tower == "vision" else source.text)[0]]

    @property
    def output(self) -> str:
        """Name of the output that is the vector, or of the hidden states whose first token is."""
        return self.card.vision_output if self.tower == "vision" else self.card.text_output


class Engine(Protocol):
    """A loaded network. One object is used by one thread at a time."""

    device: str
    """What it runs on: ``"cpu"``, ``"cuda"``, ..."""

    batch: int
    """How many rows to hand over at once at most."""

    def run(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """The vectors of n inputs, not normalised.

        Args:
            values: ``(n, 3, s, s)`` float32 pixels or ``(n, context)`` int64 tokens, n at least 1.

        Returns:
            ``(n, d)`` float32, the caller's own.
        """

    def memory(self) -> int:
        """Bytes it holds: what the device counts, or the size of the weights where nothing counts."""


@dataclass(frozen=True, slots=True)
class _Kind:
    module: str  # holds `facts` and the class
    attribute: str
    library: str
    family: Literal["onnx", "torch"]
    install: str


ENGINES: Mapping[str, _Kind] = {
    "onnxruntime": _Kind(
        "reverie.encoders.onnx_engine", "OnnxEngine", "onnxruntime", "onnx", 'pip install "reverie[clip]"'
    ),
    "openvino": _Kind(
        "reverie.encoders.openvino_engine",
        "OpenVinoEngine",
        "openvino",
        "onnx",
        'pip install "reverie[clip]" openvino',
    ),
    "torch": _Kind(
        "reverie.encoders.torch_engine", "TorchEngine", "torch", "torch", 'pip install "reverie[clip-torch]"'
    ),
}
"""Every engine by name."""

_ABLE = {
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "torch": ("fp32", "bf16"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs the network, and why.

    Attributes:
        engine: Its name.
        precision: From `PRECISIONS`.
        device: What it runs on; before it is loaded, what it is expected to.
        threads: Threads on the CPU.
        reason: One sentence.
    """

    engine: str
    precision: str
    device: str
    threads: int
    reason: str

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.engine} {self.precision} on {self.device}, {threads}"


def variants() -> list[str]:
    """Everything that may follow the colon of a name."""
    return [*ENGINES, *PRECISIONS, *(f"{name}-{one}" for name, able in _ABLE.items() for one in able)]


def parse(variant: str) -> tuple[str | None, str | None]:
    """Engine and precision that a variant names, None for what it leaves open.

    Raises:
        InputError: It names something else; the message lists what exists.
    """
    if not variant:
        return None, None
    if variant not in variants():
        raise InputError(f"no engine or precision {variant!r}; there are: {', '.join(variants())}")
    if variant in PRECISIONS:
        return None, variant
    engine, _, precision = variant.partition("-")
    return engine, precision or None


def installed(engine: str) -> bool:
    """Whether its library is there; nothing is imported."""
    library = ENGINES[engine].library
    return library in sys.modules or find_spec(library) is not None


def facts_of(engine: str) -> EngineFacts:
    """What an engine offers; imports its library.

    Raises:
        MissingDependencyError: It is not installed; the message holds the line that installs it.
    """
    facts: EngineFacts = _module(engine).facts()
    return facts


def family_of(engine: str) -> Literal["onnx", "torch"]:
    """Which files of a model the engine reads."""
    return ENGINES[engine].family


def start(engine: str, job: Job) -> Engine:
    """Load a network.

    Raises:
        MissingDependencyError: The engine is not installed.
        ModelCorruptError: A file is not such a network.
        ModelError: The engine cannot run it.
    """
    loaded: Engine = getattr(_module(engine), ENGINES[engine].attribute)(job)
    return loaded


def choose(variant: str = "", threads: int | None = None) -> Choice:
    """Pick engine and precision for a variant; imports the library that is picked.

    Raises:
        InputError: No such variant, or ``threads`` (or REVERIE_THREADS) is not a positive number.
        MissingDependencyError: The engine, or every engine, is not installed.
    """
    engine, precision = parse(variant)
    count = default_threads() if threads is None else _as_threads(threads, "threads")
    if engine is not None:
        why = f"{engine} was asked for"
    else:
        engine, why = _pick(precision)
    facts = facts_of(engine)
    if precision is None:
        precision, why = facts.precisions[0], f"{why}; {facts.why}"
    else:
        why = f"{why}; {precision} was asked for"
    return Choice(engine, precision, facts.devices[0], count, why)


def _pick(precision: str | None) -> tuple[str, str]:
    """The engine when none is named, and why."""
    for name, rule in _RULES:
        able = precision is None or precision in _ABLE[name]
        if able and installed(name) and (why := rule(precision)) is not None:
            return name, why
    if precision in (None, "fp32"):
        raise MissingDependencyError(
            'no engine for this model is installed: pip install "reverie[clip]" brings onnxruntime '
            'and OpenVINO. encoder="descriptor" needs none'
        )
    names = [name for name, able in _ABLE.items() if precision in able]
    raise MissingDependencyError(
        f"{precision} needs {' or '.join(names)}, and neither is installed: {ENGINES['openvino'].install}"
    )


def _torch_with_gpu(_precision: str | None) -> str | None:
    if "torch" not in sys.modules or facts_of("torch").devices[0] == "cpu":
        return None
    return f"torch is loaded already and sees {facts_of('torch').devices[0]}"


def _onnx_with_gpu(_precision: str | None) -> str | None:
    device = facts_of("onnxruntime").devices[0]
    return None if device == "cpu" else f"onnxruntime offers {device}"


def _openvino_on_x86(precision: str | None) -> str | None:
    """For what it does faster: bf16 and int8. In fp32 both are as fast, and onnxruntime needs less memory."""
    if precision == "fp32" or platform.machine().lower() not in _X86:
        return None
    # Asked in this order: what the processor says costs nothing, OpenVINO's import a quarter of a second.
    if precision is None and not (bf16_pays() and facts_of("openvino").precisions[0] == "bf16"):
        return None
    return f"OpenVINO is the fastest in {precision or 'bf16'} on x86 processors"


_RULES: Sequence[tuple[str, Callable[[str | None], str | None]]] = (
    ("torch", _torch_with_gpu),
    ("onnxruntime", _onnx_with_gpu),
    ("openvino", _openvino_on_x86),
    ("onnxruntime", lambda _: "onnxruntime runs everywhere"),
    ("openvino", lambda _: "OpenVINO is installed"),
    ("torch", lambda _: "only torch is installed"),
)


def bf16_pays(flags: str | None = None) -> bool:
    """Whether products in bf16 are faster than in fp32 on an x86 processor, from what Linux says of it.

    Intel's do with their matrix unit (AMX), which a virtual machine may hide: there bf16 took 60 ms where
    fp32 took 35. AMD's do since Zen 4. Where the system says nothing, True: the engine itself knows.

    Args:
        flags: Content of ``/proc/cpuinfo``, empty where there is none; None to read it.
    """
    if flags is None:
        flags = _processor()
    return not flags or "amx_bf16" in flags or ("AuthenticAMD" in flags and "avx512_bf16" in flags)


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def engine_report(variant: str = "") -> list[dict[str, Any]]:
    """What is installed and what would be picked, one row an engine, without loading a model.

    torch is looked at only when this process holds it already: importing it takes seconds.

    Returns:
        Rows with ``engine``, ``version`` (None when it is not installed), ``install`` (the line that
        installs it), ``devices``, ``precisions``, ``picked`` (bool) and ``why``.
    """
    try:
        picked: Choice | None = choose(variant)
    except MissingDependencyError:
        picked = None
    return [_row(name, picked) for name in ENGINES]


def _row(name: str, picked: Choice | None) -> dict[str, Any]:
    chosen = picked is not None and picked.engine == name
    row: dict[str, Any] = {
        "engine": name,
        "version": None,
        "install": ENGINES[name].install,
        "devices": [],
        "precisions": list(_ABLE[name]),
        "picked": chosen,
        "why": picked.reason if picked is not None and chosen else "",
    }
    if not installed(name):
        return row
    if name == "torch" and "torch" not in sys.modules:
        return row | {"version": _version("torch"), "devices": ["known once torch is loaded"]}
    facts = facts_of(name)
    return row | {"version": facts.version, "devices": [*facts.devices], "precisions": [*facts.precisions]}


def _version(library: str) -> str:
    from importlib.metadata import version  # noqa: PLC0415 - costs 10 ms, needed by few

    return version(library)


def _module(engine: str) -> Any:
    kind = ENGINES[engine]
    if not installed(engine):
        raise MissingDependencyError(f"the engine {engine} is not installed: {kind.install}")
    try:
        return importlib.import_module(kind.module)
    except ImportError as exc:
        raise MissingDependencyError(f"the engine {engine} cannot be loaded ({exc}): {kind.install}") from exc


def default_threads() -> int:
    """REVERIE_THREADS, or the processor's cores that this process may use, 8 at most.

    A number that is given is cut at what the processor runs at once.

    Raises:
        InputError: REVERIE_THREADS is not a positive whole number.
    """
    named = os.environ.get("REVERIE_THREADS", "")
    return _as_threads(named, "REVERIE_THREADS") if named else min(_cores(), _MOST_THREADS)


def _as_threads(value: object, what: str) -> int:
    """A number that somebody gave, cut at what the processor runs at once: the others would only wait."""
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise InputError(f"{what} must be a whole number from 1 up, got {value!r}")
    return min(count, os.cpu_count() or 1)


def _cores() -> int:
    """Cores, not hyper-threads, where the system tells them apart."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    mine = os.sched_getaffinity(0)
    try:
        cores = {
            Path(f"/sys/devices/system/cpu/cpu{one}/topology/thread_siblings").read_text() for one in mine
        }
    except OSError:
        return len(mine)
    return len(cores)
