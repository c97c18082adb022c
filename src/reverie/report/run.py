"""A finished (or interrupted) run, read back from its folder.

The loop writes the folder: ``run.json``, and for every arm a folder with ``frames/000000.png`` (the
start image), ``frames/000001.png`` ... and ``journal.jsonl``. This module only reads. Keys that it does
not know are ignored, so a newer run still opens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import orjson
from PIL import Image

from reverie.errors import ImageError, InputError, StorageError
from reverie.loop.journal import read_journal
from reverie.pixels import to_image
from reverie.storage import is_there

__all__ = ["Arm", "Doing", "FrameRecord", "Injected", "Run", "evenly", "load_run"]

RUN_FILE = "run.json"
JOURNAL_FILE = "journal.jsonl"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Injected:
    """What was put into the loop.

    Attributes:
        cache_id: Which memory; empty for a picture that was imagined.
        similarity: Cosine to the frame it was decided at, in [-1, 1]; None when the journal has none.
        source: Its picture, relative to the arm's folder; the file may be gone. None when unknown.
        imagined: Whether it is a picture that was never shown before, instead of a memory.
    """

    cache_id: str
    similarity: float | None = None
    source: str | None = None
    imagined: bool = False


@dataclass(frozen=True, slots=True)
class Doing:
    """What a loop was doing at a frame.

    Attributes:
        name: In a word or two, as in `reverie.loop.states`; a newer journal may know others.
        why: One sentence with the numbers; may be empty.
    """

    name: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One line of a journal: a frame, what was decided about it, and why.

    Attributes:
        frame: Its number; 1 is the first that the loop made.
        reason: The policy's reason in words; empty when there is none.
        injected: What the loop sets out for at this frame; None when it went on by itself.
        doing: What the loop was doing; None in a journal of before there were states.
        arrived: Whether the way to what was injected ended at this frame.
        on_way: Whether the loop is on a way of several frames after it; a cut is none.
        drift: How its colours are outside of those of the anchors, in words; empty in an older journal.
        recoloured: Whether its colours were put right in the next input.
        measures: Numbers by name; a measure that was not there yet is left out.
        times_ms: Milliseconds by phase (generate, encode, store, decide).
    """

    frame: int
    reason: str = ""
    injected: Injected | None = None
    doing: Doing | None = None
    arrived: bool = False
    on_way: bool = False
    drift: str = ""
    recoloured: bool = False
    measures: Mapping[str, float] = field(default_factory=dict)
    times_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One loop of a run.

    Attributes:
        name: Short name, one of a kind in the run.
        title: What people read.
        policy: Name of its injection policy; ``none`` is the loop without memory.
        folder: Where its frames and journal are.
        root: The run's folder; no picture outside it is read.
        summary: Figures of the whole arm by name; those that were not computed are left out.
        records: The journal, by frame.
    """

    name: str
    title: str
    policy: str
    folder: Path
    root: Path
    summary: Mapping[str, float]
    records: tuple[FrameRecord, ...]

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the frames that are on disk, ascending; 0 is the start image."""
        frames = self.folder / "frames"
        found = (path.stem for path in frames.glob("*.png")) if is_there(frames) else ()
        return tuple(sorted(int(stem) for stem in found if len(stem) >= 6 and stem.isdecimal()))

    @property
    def last(self) -> int:
        """Number of the last frame on disk or in the journal; 0 when no frame was made."""
        written = self.records[-1].frame if self.records else 0
        return max(written, self.numbers[-1] if self.numbers else 0)

    @property
    def tail(self) -> str:
        """The frames that the figures of an arm's end are about, in words."""
        return "its last 100 frames" if self.last >= 100 else f"its {self.last} frames"

    @property
    def injections(self) -> tuple[FrameRecord, ...]:
        """The records at which the loop set out for a memory, or for something imagined."""
        return tuple(record for record in self.records if record.injected is not None)

    def picture(self, number: int) -> Image.Image | None:
        """The frame of that number as RGB; None when it is not there or cannot be read."""
        return self.image(f"frames/{number:06d}.png")

    def image(self, name: str) -> Image.Image | None:
        """A picture by its name relative to the arm's folder, as RGB.

        None when it is missing, unreadable, or outside the run's folder: a report of the rest is
        worth more than no report.
        """
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            return None
        try:
            return to_image(path)
        except (ImageError, StorageError):
            return None


@dataclass(frozen=True)
class Run:
    """Everything that a run folder says.

    Attributes:
        folder: The folder itself.
        reverie: Version that made it.
        created: ISO time; empty when unknown.
        command: The command that repeats it; empty when unknown.
        settings: The run's settings by name.
        finished: False after Ctrl-C.
        elapsed_s: Seconds it took.
        arms: At least one, in the order of ``run.json``.
    """

    folder: Path
    reverie: str
    created: str
    command: str
    settings: Mapping[str, Any]
    finished: bool
    elapsed_s: float
    arms: tuple[Arm, ...]

    @property
    def last(self) -> int:
        """Number of the last frame of the longest arm; 0 when none was made."""
        return max(arm.last for arm in self.arms)

    @cached_property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels of the first frame that can be read; (128, 128) without any."""
        for arm in self.arms:
            for number in arm.numbers:
                picture = arm.picture(number)
                if picture is not None:
                    return picture.size
        return (128, 128)


def load_run(folder: str | Path) -> Run:
    """Read a run folder.

    A journal whose last line is torn (the process was killed while it wrote) loses that line; when
    a frame stands in a journal twice, the later line counts.

    Raises:
        InputError: Not a run folder, or a file in it is damaged; the message names file and line.
        StorageError: A file cannot be read (permission, input/output error).
    """
    root = Path(folder)
    path = root / RUN_FILE
    if not is_there(path) or not path.is_file():
        raise InputError(f"{root} is not a run: it has no {RUN_FILE} (`reverie dream` writes one)")
    data = _parse(_read(path), str(path))
    version = data.get("version")
    if version != VERSION:
        raise InputError(f"{path} has version {version!r}, but this reverie reads version {VERSION}")
    listed = data.get("arms")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path} lists no arms: a run has at least one")
    return Run(
        folder=root,
        reverie=_text(data, "reverie", path),
        created=_text(data, "created", path),
        command=_text(data, "command", path),
        settings=_table(data, "settings", path),
        finished=data.get("finished") is True,
        elapsed_s=_number(data.get("elapsed_s")) or 0.0,
        arms=tuple(_arm(root, path, entry) for entry in listed),
    )


def _arm(root: Path, path: Path, entry: Any) -> Arm:
    if not isinstance(entry, dict):
        raise InputError(f"{path}: an arm must be an object, got {type(entry).__name__}")
    name = _text(entry, "name", path)
    folder = root / (_text(entry, "folder", path) or name)
    if not folder.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{path}: the folder of arm {name!r} leads out of the run")
    return Arm(
        name=name,
        title=_text(entry, "title", path) or name,
        policy=_text(entry, "policy", path),
        folder=folder,
        root=root,
        summary=_numbers(_table(entry, "summary", path)),
        records=_journal(folder / JOURNAL_FILE),
    )


def _journal(path: Path) -> tuple[FrameRecord, ...]:
    if not is_there(path):
        return ()
    records: dict[int, FrameRecord] = {}
    for at, line in enumerate(read_journal(path), 1):
        record = _record(line, f"{path}, line {at}")
        records[record.frame] = record
    return tuple(records[frame] for frame in sorted(records))


def _record(data: Mapping[str, Any], where: str) -> FrameRecord:
    frame = data.get("frame")
    if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
        raise InputError(f"{where}: 'frame' must be a whole number from 0, got {frame!r}")
    colour = _table(data, "colour", where)
    return FrameRecord(
        frame=frame,
        reason=_text(data, "reason", where),
        injected=_injected(data.get("injected"), where),
        doing=_doing(data.get("loop"), where),
        arrived=data.get("arrived") is True,
        on_way=_table(_table(data, "state", where), "way", where).get("leg") is not None,
        drift=_text(colour, "drift", where),
        recoloured=bool(_text(colour, "corrected", where)),
        measures=_numbers(_table(data, "measures", where)),
        times_ms=_numbers(_table(data, "times_ms", where)),
    )


def _injected(data: Any, where: str) -> Injected | None:
    if data is None:
        return None
    if not isinstance(data, dict):
        raise InputError(f"{where}: 'injected' must be an object or null, got {type(data).__name__}")
    return Injected(
        cache_id=_text(data, "cache_id", where),
        similarity=_number(data.get("similarity")),
        source=_text(data, "source", where) or None,
        imagined=data.get("kind") == "imagined",
    )


def _doing(data: Any, where: str) -> Doing | None:
    if data is None:
        return None
    if not isinstance(data, dict):
        raise InputError(f"{where}: 'loop' must be an object or null, got {type(data).__name__}")
    name = _text(data, "name", where)
    return Doing(name, _text(data, "why", where)) if name else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise StorageError(f"cannot read {path}: {exc.strerror or exc}") from exc


def _parse(data: bytes, where: str) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise InputError(f"{where} is not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise InputError(f"{where} must hold an object, got {type(parsed).__name__}")
    return cast("Mapping[str, Any]", parsed)


def _text(data: Mapping[str, Any], key: str, where: object) -> str:
    value = data.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{where}: {key!r} must be text, got {type(value).__name__}")
    return value


def _table(data: Mapping[str, Any], key: str, where: object) -> Mapping[str, Any]:
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{where}: {key!r} must be an object, got {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def _numbers(table: Mapping[str, Any]) -> Mapping[str, float]:
    read = {name: _number(value) for name, value in table.items()}
    return {name: value for name, value in read.items() if value is not None}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def evenly(first: int, last: int, count: int) -> Sequence[int]:
    """At most ``count`` different whole numbers from ``first`` to ``last``, both included, evenly spaced."""
    span = last - first
    if count <= 1 or span <= 0:
        return [first]
    count = min(count, span + 1)
    return [first + round(at * span / (count - 1)) for at in range(count)]
