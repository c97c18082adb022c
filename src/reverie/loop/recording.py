"""A loop that was recorded, read back from its folder; nothing in the folder is changed.

The folder of a loop holds ``journal.jsonl``, ``frames/000001.png`` and on, ``embeddings.f32`` (a vector of
little-endian float32 a frame) and, where pictures were remembered before the first frame, ``seeds/000.png``
and on. Of what the lines hold, `RecordedFrame` is what says what was decided; other keys are passed over.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.manager import CacheManager
from reverie.errors import CacheError, EncoderMismatchError, ImageNotFoundError, InputError
from reverie.loop.journal import read_journal
from reverie.protocols import Encoder
from reverie.storage import is_there, replace_file, storage_error
from reverie.vectors import Embedding, Vectors, as_embedding

__all__ = [
    "JOURNAL",
    "VECTORS",
    "RecordedFrame",
    "Recording",
    "frame_name",
    "imagined_name",
    "open_recording",
    "picture_name",
    "read_arrays",
    "read_record",
    "read_vectors",
    "seed_name",
    "write_arrays",
]

JOURNAL = "journal.jsonl"
"""Name of a loop's journal in its folder."""

VECTORS = "embeddings.f32"
"""Name of the vectors of its frames."""

How = Literal["frame", "input", "calm", "blend"]

_Value = TypeVar("_Value")


def frame_name(number: int) -> str:
    """Of the picture of a frame, in the folder of its loop."""
    return f"frames/{number:06d}.png"


def seed_name(number: int) -> str:
    """Of a seed picture that was remembered, from 0."""
    return f"seeds/{number:03d}.png"


def imagined_name(number: int) -> str:
    """Of the picture that was imagined at a frame."""
    return f"imagined/{number:06d}.png"


def picture_name(params: Mapping[str, Any]) -> str | None:
    """Name of the picture that an entry of a loop's memory is, by how it was made; None when unknown."""
    frame, seed = params.get("frame"), params.get("seed_picture")
    if isinstance(frame, int):
        return frame_name(frame)
    return seed_name(seed) if isinstance(seed, int) else None


# ------------------------------------------------------------------ files


def read_record(folder: Path) -> dict[str, Any]:
    """What ``run.json`` of a run folder says.

    Raises:
        InputError: There is none, or it is damaged.
        StorageError: It cannot be read.
    """
    path = folder / "run.json"
    try:
        record = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder} is no run folder: there is no run.json in it") from None
    except OSError as exc:
        raise storage_error(f"read {path}", exc) from exc
    except orjson.JSONDecodeError as exc:
        raise InputError(f"{path} is damaged: {exc}") from exc
    if not isinstance(record, dict):
        raise InputError(f"{path} is damaged: not an object")
    return record


def read_vectors(path: Path, count: int, dimensions: int) -> Iterator[Vectors]:
    """The first ``count`` vectors of a file, ``(dimensions,)`` float32 each; more of them are passed over.

    Raises:
        InputError: It holds fewer.
        StorageError: It cannot be read.
    """
    try:
        numbers = np.fromfile(path, dtype="<f4")
    except OSError as exc:
        raise storage_error(f"read {path}", exc) from exc
    if len(numbers) < count * dimensions:
        raise InputError(
            f"{path} holds {len(numbers)} numbers, {count} frames of {dimensions} were expected: "
            "it was cut, or the run was made with another encoder"
        )
    return iter(numbers[: count * dimensions].reshape(count, dimensions))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put arrays by name into the place of a file, in one step; raises StorageError."""
    buffer = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez(buffer, **named)
    replace_file(path, [buffer.getvalue()], durable=False)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """What `write_arrays` wrote, in its order; nothing where there is no such file.

    Raises:
        InputError: It is damaged.
        StorageError: It cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise storage_error(f"read {path}", exc) from exc
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as exc:
        raise InputError(f"{path} is damaged: {exc}") from exc


# ------------------------------------------------------------------ what was recorded


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """What a line of a journal says was done.

    Attributes:
        number: Of the frame, 1 for the first.
        kept: Whether it was remembered.
        replaced: Whether something else was evicted for it.
        set_out: Whether the loop set out for a picture at it.
        target: Name of that picture in the loop's folder; None when it did not, or it is not known.
        alarm: Whether the policy's alarm was on; None when it was not asked, or has none.
        how: What was shown: the ``frame`` as it was made, or something nearer to the one before.
        share: Of the input, the strength or the blend; 1 for the frame itself.
        made: How many more frames the generator made for it.
        taken: How much of what was new in the frame's input is in its own, in [0, 1].
        depth: Generations between it and a picture from outside.
        tried: Whether something was imagined at it, taken or not.
        reason: The policy's reason.
    """

    number: int
    kept: bool = False
    replaced: bool = False
    set_out: bool = False
    target: str | None = None
    alarm: bool | None = None
    how: How = "frame"
    share: float = 1.0
    made: int = 0
    taken: float = 1.0
    depth: float = 0.0
    tried: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A loop that was recorded; `open_recording` makes it.

    Attributes:
        folder: Of the loop.
        run: ``run.json`` of the run that it belongs to; empty when there is none.
        frames: In order, at least one.
        policy: Name of its policy; empty when unknown.
        matcher: Of the encoder that the vectors below are of.
        embeddings: A unit vector a frame.
        recorded_vectors: Whether they are the recorded ones; else they were made of the pictures now.
        seeds: The seed pictures that the run remembered, in order.
        seed_embeddings: A unit vector each.
    """

    folder: Path
    run: Mapping[str, Any]
    frames: tuple[RecordedFrame, ...]
    policy: str
    matcher: AestheticMatcher
    embeddings: Sequence[Embedding]
    recorded_vectors: bool
    seeds: Sequence[Path] = ()
    seed_embeddings: Sequence[Embedding] = field(default=(), repr=False)

    @property
    def arm(self) -> str:
        """Name of the loop's folder."""
        return self.folder.absolute().name

    @property
    def remembers_seeds(self) -> bool:
        """Whether the loop itself remembered the seed pictures."""
        return (self.folder / seed_name(0)).is_file()

    @property
    def same_encoder(self) -> bool:
        """Whether the vectors are of the encoder that the run had."""
        return _table(self.run.get("settings")).get("encoder") == self.matcher.encoder.name

    @property
    def towards(self) -> str | None:
        """What the run was to tend to; None for nothing, and with another encoder than the run's."""
        return (self.asked("towards", "") or None) if self.same_encoder else None

    def asked(self, name: str, otherwise: _Value) -> _Value:
        """A setting that the run was asked for, if it is known and of the type of ``otherwise``."""
        value = _table(self.run.get("asked")).get(name)
        return value if isinstance(value, type(otherwise)) else otherwise

    def remembered(self) -> Vectors | None:
        """What the memory of the recorded loop held in the end, ``(n, d)`` unit rows.

        None when the loop had no memory, or it is not there or not readable any more. The index is looked at
        in a copy.
        """
        index = self.folder / "cache" / "metadata"
        if not index.is_dir():
            return None
        with tempfile.TemporaryDirectory() as copy:
            try:
                shutil.copytree(index, Path(copy) / "metadata")
                with CacheManager(copy, max_size=None) as cache:
                    names = [picture_name(entry.generation_params) or "" for entry in cache]
            except (CacheError, OSError):
                return None
        known = self._vectors_by_name()
        rows = [known[name] for name in names if name in known]
        return np.array(rows, dtype=np.float32).reshape(len(rows), -1)

    def _vectors_by_name(self) -> dict[str, Embedding]:
        frames = {frame_name(at): row for at, row in enumerate(self.embeddings, start=1)}
        seeds = {seed_name(at): row for at, row in enumerate(self.seed_embeddings)}
        return {**frames, **seeds}


def open_recording(
    path: str | os.PathLike[str], arm: str | None = None, encoder: str | Encoder | None = None
) -> Recording:
    """Read a recorded loop.

    Args:
        path: A journal, the folder of a loop, or the folder of a run.
        arm: Which loop of a run; None takes ``with``, or the only one there is.
        encoder: A registered name or an `Encoder`; None takes the run's. Vectors of another encoder than the
            recorded, or such that are not there, are made of the pictures.

    Raises:
        InputError: No such file; not a journal, nor a folder with one; no frame in it; a line is damaged, the
            message names it; vectors are cut off; no such arm.
        ImageNotFoundError: A picture is missing.
        ImageError: One is broken.
        EncoderMismatchError: The recorded vectors are of an encoder that is not the one the run names now.
        UnknownNameError: No encoder of that name.
        StorageError: A file cannot be read.

        And what the encoder raises.
    """
    journal, run = _find(Path(path), arm)
    folder = journal.parent
    lines = read_journal(journal)
    if not lines:
        raise InputError(f"{journal} holds no frame: there is nothing to replay")
    frames = tuple(_frame(line, number, journal) for number, line in enumerate(lines, start=1))
    policy = lines[-1].get("policy")
    missing = next((each for each in frames if not (folder / frame_name(each.number)).is_file()), None)
    if missing is not None:
        name = folder / frame_name(missing.number)
        raise ImageNotFoundError(f"{name} is missing: a replay needs the pictures of all frames")
    matcher, recorded = _matcher(folder, run, encoder)
    seeds = _seeds(folder, run)
    return Recording(
        folder,
        run,
        frames,
        policy if isinstance(policy, str) else "",
        matcher,
        _embeddings(folder, len(frames), matcher, recorded),
        recorded,
        seeds,
        _encoded(matcher, seeds),
    )


# ------------------------------------------------------------------ which


def _find(path: Path, arm: str | None) -> tuple[Path, dict[str, Any]]:
    """The journal, and the record of its run."""
    if is_there(path / "run.json"):
        run = read_record(path)
        return _arm_folder(path, run, arm) / JOURNAL, run
    if arm is not None:
        raise InputError(f"{path} is no run folder, so it has no loop {arm!r} to choose")
    journal = path / JOURNAL if path.is_dir() else path
    if not is_there(path):
        raise InputError(f"{path}: no such file or folder")
    if not journal.is_file():
        raise InputError(f"{path} holds no {JOURNAL} and no run.json: it is neither a loop nor a run")
    outer = journal.absolute().parent.parent
    return journal, read_record(outer) if (outer / "run.json").is_file() else {}


def _arm_folder(path: Path, run: Mapping[str, Any], arm: str | None) -> Path:
    arms = [each for each in run.get("arms") or () if isinstance(each, dict)]
    names = [str(each.get("name")) for each in arms]
    wanted = arm or (names[0] if len(names) == 1 else "with")
    if wanted not in names:
        raise InputError(f"{path} has no loop {wanted!r}; there are: {', '.join(names)}")
    folder = path / str(arms[names.index(wanted)].get("folder") or wanted)
    if not folder.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{path}: the folder of the loop {wanted!r} leads out of the run")
    if not (folder / JOURNAL).is_file():
        raise InputError(f"{folder} holds no {JOURNAL}: that loop was never begun")
    return folder


def _seeds(folder: Path, run: Mapping[str, Any]) -> list[Path]:
    """Those of the loop, else of another loop of the run: all loops of a run have the same."""
    others = [folder.parent / str(_table(each).get("folder")) for each in run.get("arms") or ()]
    inside = folder.parent.resolve()
    for place in (folder, *others):
        if place.resolve().is_relative_to(inside) and (place / seed_name(0)).is_file():
            return sorted((place / "seeds").glob("[0-9][0-9][0-9]*.png"))
    return []


# ------------------------------------------------------------------ vectors


def _matcher(
    folder: Path, run: Mapping[str, Any], encoder: str | Encoder | None
) -> tuple[AestheticMatcher, bool]:
    """The encoder, and whether the recorded vectors are of it."""
    asked, made_by = _table(run.get("asked")), _table(run.get("settings")).get("encoder")
    if encoder is None:
        options = {name: asked.get(name) for name in ("model_dir", "threads")}
        named = str(asked.get("encoder") or "descriptor")
        given = {name: value for name, value in options.items() if value is not None}
        matcher = AestheticMatcher(named, **given)
    else:
        matcher = AestheticMatcher(encoder)
    there = (folder / VECTORS).is_file()
    own = matcher.encoder.name
    if encoder is None and there and made_by is not None and made_by != own:
        raise EncoderMismatchError(
            f"the vectors of {folder} were made by the encoder {made_by!r}, and the run's encoder is {own!r} "
            "here: name an encoder, and its vectors are made of the pictures"
        )
    return matcher, there and made_by == own


def _embeddings(folder: Path, count: int, matcher: AestheticMatcher, recorded: bool) -> list[Embedding]:
    if not recorded:
        return _encoded(matcher, [folder / frame_name(number) for number in range(1, count + 1)])
    encoder = matcher.encoder
    rows = read_vectors(folder / VECTORS, count, encoder.dimensions)
    return [as_embedding(row, encoder=encoder.name) for row in rows]


def _encoded(matcher: AestheticMatcher, pictures: Sequence[Path]) -> list[Embedding]:
    name = matcher.encoder.name
    return [as_embedding(row, encoder=name) for row in matcher.encode_images(pictures)] if pictures else []


# ------------------------------------------------------------------ lines


def _frame(line: Mapping[str, Any], number: int, journal: Path) -> RecordedFrame:
    where = f"{journal}, line {number}"
    if line.get("frame") != number:
        raise InputError(f"{where} is not frame {number}: not a loop's journal, or lines of it are missing")
    injected = _of(line, "injected", Mapping, where)
    shown = _of(line, "shown", Mapping, where) or {}
    numbers = _of(line, "numbers", Mapping, where) or {}
    alarm = _of(numbers, "alarm", (int, float), where)
    how = _of(shown, "how", str, where) or "frame"
    if how not in ("frame", "input", "calm", "blend"):
        raise InputError(f"{where}: nothing is shown as {how!r}")
    share, depth = _of(shown, "share", (int, float), where), _of(line, "depth", (int, float), where)
    return RecordedFrame(
        number=number,
        kept=_of(line, "cache_id", str, where) is not None,
        replaced=_of(line, "stored", str, where) == "replaced",
        set_out=injected is not None,
        target=_of(injected or {}, "source", str, where),
        alarm=None if alarm is None else bool(alarm),
        how=cast("How", how),
        share=1.0 if share is None else float(share),
        made=int(_of(shown, "made", (int, float), where) or 0),
        taken=_taken(shown, how, where),
        depth=float(depth or 0.0),
        tried="imagined" in numbers,
        reason=_of(line, "reason", str, where) or "",
    )


def _taken(shown: Mapping[str, Any], how: str, where: str) -> float:
    """Journals of before it was in them: a calmer frame was made from the frame before alone."""
    taken = _of(shown, "taken", (int, float), where)
    if taken is None:
        taken = 0.0 if how == "calm" else _of(shown, "share", (int, float), where)
    return 1.0 if taken is None else float(taken)


def _of(table: Mapping[str, Any], key: str, kind: Any, where: str) -> Any:
    """A value of that type, or None where there is none."""
    value = table.get(key)
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{where}: {key!r} cannot be {value!r}")
    return value


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
