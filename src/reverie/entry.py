"""CacheEntry, and its one mapping to the specification's JSON record.

Two forms of one thing: a `CacheEntry` is what a caller gets (a snapshot of its own, free to
change), a `Record` is what an index stores (immutable, parameters already as JSON text).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import dropwhile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import orjson

from reverie.errors import EmbeddingError, IndexCorruptError, ParamsError, UnsafePathError
from reverie.vectors import Embedding, as_embedding

__all__ = [
    "SPEC_KEYS",
    "CacheEntry",
    "Record",
    "cache_number",
    "encode_params",
    "highest_id",
    "image_file_name",
    "record_from_json",
    "record_to_json",
    "timestamp_ns",
]

SPEC_KEYS = ("cache_id", "image_path", "prompt", "generation_params", "embedding", "timestamp")
"""The six keys of a record in the specification, always present, in this order."""

_OWN_KEYS = ("encoder", "pinned", "last_used", "content_hash", "byte_size", "parents")
_INT64_MAX = 2**63 - 1
_PARAMS_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS
_PLAIN = (int, str, bool, type(None))
_EMBEDDING_AS_READ = "embedding"  # in Record.extra: an embedding that a float32 vector cannot hold exactly


@dataclass(slots=True, eq=False)
class CacheEntry:
    """One image of the cache with what is known about it: the specification's dataclass.

    The first six fields are the specification's, in its order. An entry is a snapshot: changing
    it changes nothing in the cache.

    Attributes:
        cache_id: ``cache_00001``...; never used twice in a cache.
        image_path: Absolute path of the stored image.
        prompt: The prompt it was made with.
        generation_params: How it was made; what JSON can hold.
        embedding: ``(d,)`` float32, unit length, read-only; None if it was added without one.
        timestamp: Local time of the add, ISO 8601.
        encoder: Name of the encoder that made the embedding; None if that is not known.
        pinned: Eviction never takes a pinned entry.
        used_ns: Last `get` or `get_random` (at first: the add), nanoseconds since the epoch.
        content_hash: XXH3 (128 bits) of the stored file, hexadecimal; empty when it was never computed.
        byte_size: Size of the stored file in bytes; 0 when it is not known.
        parents: Ids of the entries this image was made from.
        extra: Keys that another program wrote into this record; kept as they are.
    """

    cache_id: str
    image_path: Path
    prompt: str
    generation_params: dict[str, Any]
    embedding: Embedding | None
    timestamp: str
    encoder: str | None = None
    pinned: bool = False
    used_ns: int = 0
    content_hash: str = ""
    byte_size: int = 0
    parents: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def last_used(self) -> str:
        """Local time of the last use, ISO 8601."""
        return _iso(self.used_ns)

    def to_dict(self) -> dict[str, Any]:
        """The specification's JSON record of this entry: plain Python, its six keys first."""
        return {
            "cache_id": self.cache_id,
            "image_path": str(self.image_path),
            "prompt": self.prompt,
            "generation_params": self.generation_params,
            "embedding": None if self.embedding is None else np.asarray(self.embedding).tolist(),
            "timestamp": self.timestamp,
            "encoder": self.encoder,
            "pinned": self.pinned,
            "last_used": self.last_used,
            "content_hash": self.content_hash,
            "byte_size": self.byte_size,
            "parents": list(self.parents),
            **self.extra,
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CacheEntry):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # a mutable snapshot: use cache_id as the key


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One entry as an index stores it.

    Attributes:
        number: Position in the life of the cache: grows with every add, never used twice.
        cache_id: The entry's id.
        image_name: File name inside ``images/``, without any folder.
        prompt: The prompt.
        params: ``generation_params`` as JSON text.
        embedding: The unit vector with its encoder's name, or None.
        timestamp: ISO 8601 local time of the add.
        used_ns: Last use, nanoseconds since the epoch.
        pinned: Eviction never takes it.
        content_hash: XXH3 (128 bits) of the file, hexadecimal, or empty.
        byte_size: Bytes of the file, or 0.
        parents: Ids it was made from.
        extra: Unknown keys as a JSON object.
    """

    number: int
    cache_id: str
    image_name: str
    prompt: str
    params: bytes
    embedding: Embedding | None
    timestamp: str
    used_ns: int
    pinned: bool = False
    content_hash: str = ""
    byte_size: int = 0
    parents: tuple[str, ...] = ()
    extra: bytes = b"{}"

    def entry(self, image_path: Path, used_ns: int | None = None) -> CacheEntry:
        """The caller's snapshot of this record, its image at ``image_path``."""
        return CacheEntry(
            self.cache_id,
            image_path,
            self.prompt,
            orjson.loads(self.params),
            self.embedding,
            self.timestamp,
            None if self.embedding is None else self.embedding.encoder,
            self.pinned,
            self.used_ns if used_ns is None else used_ns,
            self.content_hash,
            self.byte_size,
            self.parents,
            {} if self.extra == b"{}" else orjson.loads(self.extra),
        )

    def with_use(self, used_ns: int) -> Record:
        """The same record, last used at ``used_ns``."""
        return replace(self, used_ns=used_ns)

    def with_pin(self, pinned: bool) -> Record:
        """The same record, pinned or not."""
        return replace(self, pinned=pinned)


def encode_params(params: Mapping[str, Any]) -> bytes:
    """``generation_params`` as JSON text; NumPy numbers and arrays and paths are written as JSON's own types.

    Raises:
        ParamsError: Not a mapping with string keys, or a value (named by its key) that JSON cannot hold,
            NaN and infinity included.
    """
    if not isinstance(params, Mapping):
        raise ParamsError(f"generation_params must be a dict, got {type(params).__name__}")
    for key, value in params.items():
        if not isinstance(key, str):
            raise ParamsError(f"generation_params keys must be strings, got {key!r}")
        _check_json(value, key)
    try:
        return orjson.dumps(dict(params), option=_PARAMS_OPTIONS, default=_as_json)
    except (TypeError, ValueError) as exc:
        raise ParamsError(f"generation_params{_culprit(params)} cannot be written as JSON: {exc}") from exc


def _culprit(params: Mapping[str, Any]) -> str:
    """Which of the parameters JSON refuses, as ``['key']``."""
    for key, value in params.items():
        try:
            orjson.dumps({key: value}, option=_PARAMS_OPTIONS, default=_as_json)
        except (TypeError, ValueError):
            return f"[{key!r}]"
    return ""


def _check_json(value: Any, where: str, depth: int = 0) -> None:
    if type(value) in _PLAIN:
        return
    if depth > 100:
        raise ParamsError(f"generation_params[{where[:40]!r}...] is nested too deeply, or holds itself")
    if isinstance(value, np.ndarray) and value.dtype.kind in "OV":
        value = value.tolist()
    if isinstance(value, (float, np.floating)) and not np.isfinite(value):
        raise ParamsError(f"generation_params[{where!r}] is {value}: JSON has no NaN or infinity; use None")
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ParamsError(f"generation_params[{where!r}] holds NaN or infinity, which JSON cannot hold")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ParamsError(f"generation_params[{where!r}] has the key {key!r}: keys must be strings")
            _check_json(inner, f"{where}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for position, inner in enumerate(value):
            _check_json(inner, f"{where}[{position}]", depth + 1)


def _as_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.ndarray):
        return value.tolist()  # what OPT_SERIALIZE_NUMPY refuses: not contiguous, odd dtypes
    raise TypeError(f"{type(value).__name__} is not a JSON type")


def cache_number(cache_id: str) -> int:
    """The number in ``cache_00042`` (42), also in ``cache_00042_1731000000``; 0 for any other id."""
    match = re.fullmatch(r"cache_(\d{1,15})(?:_\d+)?", cache_id)
    return int(match.group(1)) if match else 0


def highest_id(text: bytes) -> int:
    """The highest number of any ``cache_00042`` in an index, also in one that cannot be read; 0 for none.

    In a database an id stands right before its timestamp, in JSON before a quote or a suffix.
    """
    found = re.findall(rb'cache_(\d{5,15}?)(?:\d{4}-\d\d-\d\dT|["._])', text)
    return max((int(digits) for digits in found), default=0)


def timestamp_ns(timestamp: str) -> int:
    """An ISO 8601 time (local unless it names an offset) in nanoseconds; 0 when it cannot be read.

    Neither can a time past the year 2262: 64 bits hold no more nanoseconds.
    """
    try:
        found = round(datetime.fromisoformat(timestamp).timestamp() * 1e6) * 1000
    except (ValueError, OverflowError, OSError):
        return 0
    return found if abs(found) <= _INT64_MAX else 0


def _iso(used_ns: int) -> str:
    """With its offset from UTC: the order of uses holds through the hour that clocks are put back."""
    return datetime.fromtimestamp(used_ns / 1e9).astimezone().isoformat(timespec="microseconds")


def image_file_name(recorded: str, cache_id: str) -> str:
    """The file name inside ``images/`` that a recorded ``image_path`` stands for.

    Whatever folder the cache was in when the path was written (relative, absolute, Windows or
    POSIX), the image is the last component, and it must lie directly in a folder ``images``.

    Raises:
        UnsafePathError: The path leads elsewhere: nothing outside ``images/`` is ever touched.
    """
    windows = "\\" in recorded
    path = PureWindowsPath(recorded) if windows else PurePosixPath(recorded)
    name = path.name
    safe = name not in ("", ".", "..") and "\0" not in name and ":" not in name
    inner = list(dropwhile(lambda part: part in ("..", "."), path.parts))  # a cache in ../cache is fine
    if not safe or ".." in inner or path.parent.name != "images":
        raise UnsafePathError(
            f"entry {cache_id!r} records the image path {recorded!r}, which is not a file in the "
            "cache's own folder images/: it is not followed"
        )
    return name


def record_to_json(record: Record, prefix: str) -> bytes:
    """The specification's JSON record, on one line: its six keys first, ours after them.

    Args:
        record: What to write.
        prefix: What stands before the file name in ``image_path``, such as ``cache/images/``.

    Raises:
        ParamsError: A text (the prompt, an id) holds half a surrogate pair, which JSON cannot.
    """
    extra = orjson.loads(record.extra)
    as_read = extra.pop(_EMBEDDING_AS_READ, None)
    vector = record.embedding
    embedding: Any = as_read
    if embedding is None and vector is not None:
        embedding = np.asarray(vector)
    fields = {
        "cache_id": record.cache_id,
        "image_path": prefix + record.image_name,
        "prompt": record.prompt,
        "generation_params": orjson.Fragment(record.params),
        "embedding": embedding,
        "timestamp": record.timestamp,
        "encoder": None if vector is None else vector.encoder,
        "pinned": record.pinned,
        "last_used": _iso(record.used_ns),
        "content_hash": record.content_hash,
        "byte_size": record.byte_size,
        "parents": list(record.parents),
        **extra,
    }
    try:
        return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as exc:
        raise ParamsError(f"entry {record.cache_id!r} cannot be written as JSON: {exc}") from exc


def record_from_json(raw: Any, number: int) -> Record:
    """Read one record of the specification's index, ours or that of another program.

    An embedding that is not a plain vector (the specification's own project later wrote mappings),
    or that float32 cannot hold exactly, is kept as it was read beside the vector.

    Raises:
        IndexCorruptError: A key of the six is missing, or a value has the wrong type (named).
        UnsafePathError: The image path leads out of the cache folder.
    """
    if not isinstance(raw, dict):
        raise IndexCorruptError(f"entry {number} is {_kind(raw)}, expected an object")
    missing = [key for key in SPEC_KEYS if key not in raw]
    if missing:
        raise IndexCorruptError(f"entry {number} has no key {missing[0]!r}")
    for key, kind in (("cache_id", str), ("image_path", str), ("prompt", str), ("timestamp", str)):
        if not isinstance(raw[key], kind):
            raise IndexCorruptError(f"entry {number}: {key!r} is {_kind(raw[key])}, expected text")
    cache_id = raw["cache_id"]
    if not isinstance(raw["generation_params"], dict):
        raise IndexCorruptError(
            f"entry {cache_id!r}: 'generation_params' is {_kind(raw['generation_params'])}, "
            "expected an object"
        )
    extra = {key: value for key, value in raw.items() if key not in SPEC_KEYS and key not in _OWN_KEYS}
    encoder = _typed(raw, "encoder", str, None, cache_id)
    embedding = _read_embedding(raw["embedding"], encoder, cache_id, extra)
    if embedding is None and encoder is not None:
        extra["encoder"] = encoder  # without a vector there is nothing else to stamp
    used_ns = timestamp_ns(_typed(raw, "last_used", str, raw["timestamp"], cache_id))
    return Record(
        number=number,
        cache_id=cache_id,
        image_name=image_file_name(raw["image_path"], cache_id),
        prompt=raw["prompt"],
        params=_dump(raw["generation_params"], "generation_params", cache_id),
        embedding=embedding,
        timestamp=raw["timestamp"],
        used_ns=used_ns,
        pinned=_typed(raw, "pinned", bool, False, cache_id),
        content_hash=_typed(raw, "content_hash", str, "", cache_id),
        byte_size=_byte_size(raw, cache_id),
        parents=_parents(raw, cache_id),
        extra=_dump(extra, "extra", cache_id),
    )


def _byte_size(raw: dict[str, Any], cache_id: str) -> int:
    size: int = _typed(raw, "byte_size", int, 0, cache_id)
    if not 0 <= size <= _INT64_MAX:
        raise IndexCorruptError(f"entry {cache_id!r}: 'byte_size' is {size}, which is no size of a file")
    return size


def _parents(raw: dict[str, Any], cache_id: str) -> tuple[str, ...]:
    parents: list[Any] = _typed(raw, "parents", list, [], cache_id)
    for parent in parents:
        if not isinstance(parent, str):
            raise IndexCorruptError(f"entry {cache_id!r}: 'parents' holds {_kind(parent)}, expected ids")
    return tuple(parents)


def _dump(value: dict[str, Any], key: str, cache_id: str) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as exc:
        raise IndexCorruptError(f"entry {cache_id!r}: {key!r} cannot be kept as JSON: {exc}") from exc


def _read_embedding(
    value: Any, encoder: str | None, cache_id: str, extra: dict[str, Any]
) -> Embedding | None:
    if value is None:
        return None
    if isinstance(value, dict):
        extra[_EMBEDDING_AS_READ] = value
        return None
    if not isinstance(value, list):
        raise IndexCorruptError(
            f"entry {cache_id!r}: 'embedding' is {_kind(value)}, expected a list of numbers or null"
        )
    try:
        vector = as_embedding(value, encoder=encoder, what=f"embedding of {cache_id!r}")
    except EmbeddingError as exc:
        raise IndexCorruptError(str(exc)) from exc
    if not _is_exact(vector, value):
        extra[_EMBEDDING_AS_READ] = value
    return vector


def _is_exact(vector: Embedding, numbers: list[Any]) -> bool:
    """Whether the float32 vector gives the numbers that were read, as value or as shortest text."""
    plain = np.asarray(vector)
    if np.array_equal(plain.astype(np.float64), np.asarray(numbers, dtype=np.float64)):
        return True
    # Numbers, not texts: orjson writes 7.07e-6 in other digits as a float32 than as a double.
    written: list[float] = orjson.loads(orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY))
    return written == numbers


def _typed(raw: dict[str, Any], key: str, kind: type, default: Any, cache_id: str) -> Any:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise IndexCorruptError(f"entry {cache_id!r}: {key!r} is {_kind(value)}, expected {kind.__name__}")
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"{value!r}")
