"""What a cache is opened and fed with, checked before anything is touched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from reverie import registry
from reverie.cache.folder import index_on_disk
from reverie.errors import ConfigError, EmbeddingError, InputError
from reverie.half import VECTOR_TYPES, VectorType
from reverie.vectors import Embedding, as_embedding

__all__ = [
    "Durability",
    "check_count",
    "check_durability",
    "check_eviction",
    "check_limit",
    "check_parents",
    "check_space",
    "check_text",
    "check_timeout",
    "check_vector",
    "check_vector_type",
    "choose_index",
    "make_rng",
    "read_config",
]

Durability: TypeAlias = Literal["full", "batched"]
"""When what `add` returned is on the disk: by then, or a moment later."""

_JSON_UP_TO = 500  # entries: past that, rewriting a JSON file at every add costs too much


def read_config(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Folder and max_size from the nested configuration of the specification's project.

    Raises:
        ConfigError: ``["system"]["cache_dir"]`` or ``["generation"]["cache"]["max_size"]`` is not there.
    """
    try:
        return config["system"]["cache_dir"], config["generation"]["cache"]["max_size"]
    except (KeyError, TypeError) as exc:
        raise ConfigError(
            "the configuration needs config['system']['cache_dir'] and "
            f"config['generation']['cache']['max_size']: {exc!r} failed"
        ) from exc


def check_limit(name: str, value: Any) -> None:
    """Raise ConfigError unless a limit is None or a whole number of at least 1."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(f"{name} must be a whole number of at least 1, or None for no limit; got {value!r}")


def check_count(name: str, value: Any) -> None:
    """Raise ConfigError unless it is a whole number, 0 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{name} must be a whole number, 0 or more; got {value!r}")


def check_durability(value: Any) -> None:
    """Raise ConfigError unless it is one of the two."""
    if value not in get_args(Durability):
        raise ConfigError(f"durability must be one of {', '.join(get_args(Durability))}; got {value!r}")


def check_vector_type(value: Any) -> None:
    """Raise ConfigError unless it is a type that vectors can be kept as, or None."""
    if value is not None and value not in VECTOR_TYPES:
        raise ConfigError(f"vectors must be one of {', '.join(VECTOR_TYPES)}, or None; got {value!r}")


def check_timeout(value: Any) -> float:
    """The timeout in seconds as a float; raises ConfigError unless it is a number, 0 or more, and finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigError(f"lock_timeout must be seconds, 0 or more, got {value!r}")
    return float(value)


def make_rng(seed: Any) -> np.random.Generator:
    """A random generator of its own; raises ConfigError unless the seed is None or 0 or more."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"the seed must be a whole number, 0 or more, or None; got {seed!r}") from exc


def check_eviction(name: str, options: Any) -> dict[str, Any]:
    """The options of an eviction policy that can be made with them; None is none.

    Raises:
        ConfigError: They are no mapping.
        InputError: The policy does not take them.
        UnknownNameError: No policy of that name.
    """
    if not isinstance(options, (Mapping, type(None))):
        raise ConfigError(f"eviction_options must be a mapping, got {options!r}")
    given = dict(options or {})
    registry.create("evictions", name, **given)
    return given


def check_text(text: Any, what: str) -> str:
    """A text that JSON and SQLite can hold; raises InputError for other types and lone surrogates."""
    if not isinstance(text, str):
        raise InputError(f"{what} must be text, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"{what} holds a character that is not valid text: {exc}") from exc
    return str(text)


def check_vector(values: ArrayLike | None, encoder: str | None) -> Embedding | None:
    """A vector as it is stored, with a name that every index can hold; None stays None.

    Raises:
        EmbeddingError: NaN, infinity, zero, or no vector.
        InputError: The encoder's name is not text, or empty.
    """
    if values is None:
        return None
    vector = as_embedding(values, encoder=encoder)
    if vector.encoder is not None and not check_text(vector.encoder, "the encoder's name"):
        raise InputError("the encoder's name is empty: leave it out where it is not known")
    return vector


def check_parents(parents: Any) -> tuple[str, ...]:
    """Ids of parents; raises InputError unless they are a sequence of texts."""
    if parents == ():
        return ()
    if isinstance(parents, str) or not isinstance(parents, Sequence):
        raise InputError(f"parents must be a sequence of ids, got {parents!r}")
    return tuple(check_text(parent, "an id in parents") for parent in parents)


def check_space(vector: Embedding, spaces: set[tuple[str | None, int]]) -> None:
    """Raise EmbeddingError when a vector is not as long as the others of its encoder.

    Args:
        vector: What is about to be stored.
        spaces: Encoder name (None: not known) and length of the vectors there are.
    """
    lengths = {size for name, size in spaces if vector.encoder in (None, name)}
    if lengths and vector.size not in lengths:
        listed = " or ".join(str(size) for size in sorted(lengths))
        of = f" of encoder {vector.encoder!r}" if vector.encoder else ""
        raise EmbeddingError(
            f"the embedding has {vector.size} numbers, but the vectors{of} in this cache have {listed}: "
            "encode the image with the same encoder, or name another with encoder=..."
        )


def choose_index(metadata: Path, wanted: str, max_size: int | None, vectors: VectorType | None = None) -> str:
    """The kind of index to open: what is on the disk, else by size, and for halves SQLite.

    Raises:
        ConfigError: ``wanted`` contradicts what is on the disk.
        UnknownNameError: No index of that name.
    """
    found = index_on_disk(metadata)
    if wanted == "auto":
        few = max_size is not None and max_size <= _JSON_UP_TO and vectors != "float16"
        return found or ("json" if few else "sqlite")
    registry.load("indexes", wanted)
    if found is not None and found != wanted:
        raise ConfigError(
            f"{metadata.parent} has an index of kind {found!r}, but index={wanted!r} was asked: leave it "
            f"out, or convert with: reverie cache convert --to {wanted} --cache {metadata.parent}"
        )
    return wanted
