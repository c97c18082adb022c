"""A model that the user brought: a folder or a file, no network, no huggingface_hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reverie.errors import ModelCorruptError, ModelNotFoundError
from reverie.models import receipts
from reverie.models.cards import ModelCard, Source

__all__ = ["STAMP", "local_paths", "local_stamp"]

STAMP = 8
"""Hexadecimal digits of a digest that go into the name of an encoder with other weights."""


_SAME_WEIGHTS = {"pytorch_model.bin": "model.safetensors", "model.safetensors": "pytorch_model.bin"}
"""Two forms in which transformers keeps weights, and reads either."""

_POINTER = b"version https://git-lfs.github.com/spec/"


def local_paths(card: ModelCard, source: Source, names: Sequence[str], given: Path) -> dict[str, Path]:
    """Where each file is in a folder laid out as the repository, or flat; a file is the vision network.

    Raises:
        ModelNotFoundError: The folder or a file in it is not there or cannot be read; the message says what
            was looked for.
        ModelCorruptError: A file is empty, or only stands for one that git did not fetch.
    """
    given = given.expanduser()
    if not given.exists():
        raise ModelNotFoundError(f"there is no folder or file {str(given)!r} for the model {card.name!r}")
    folder, network = (given, None) if given.is_dir() else (given.parent, given)
    found = {name: _in(folder, name) for name in names}
    if network is not None and source.vision[0] in found:
        found[source.vision[0]] = network
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ModelNotFoundError(
            f"{str(folder)!r} lacks {' and '.join(_tried(name) for name in missing)}, "
            f"needed for the model {card.name!r} (files of {source.repo})"
        )
    there = {name: path for name, path in found.items() if path is not None}
    for path in there.values():
        _check_begin(path)
    return there


def local_stamp(card: ModelCard, family: str, source: Source, paths: dict[str, Path]) -> str:
    """Empty for the card's own network; else the first digits of the SHA-256 of the one that is there.

    Raises:
        ModelNotFoundError: It cannot be read.
    """
    network = source.vision[0] if source.vision[0] in paths else source.text[0]
    try:
        digest = receipts.local_digest(paths[network])
    except OSError as exc:
        raise ModelNotFoundError(f"cannot read {paths[network]}: {exc.strerror}") from exc
    record = receipts.load(card.name, family, source).files.get(network)
    own = {source.sha256.get(network, ""), record.sha256 if record else ""}
    return "" if digest in own else digest[:STAMP]


def _check_begin(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(len(_POINTER))
    except OSError as exc:
        raise ModelNotFoundError(f"cannot read {str(path)!r}: {exc.strerror}") from exc
    if not head:
        raise ModelCorruptError(f"{str(path)!r} is empty: copy or download it again")
    if head == _POINTER:
        raise ModelCorruptError(
            f"{str(path)!r} is the pointer that git keeps in place of a large file: run `git lfs pull` in "
            "its folder, or copy the file itself there"
        )


def _in(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / Path(name).name, folder / _SAME_WEIGHTS.get(name, name))
    return next((place for place in places if place.is_file()), None)


def _tried(name: str) -> str:
    flat = Path(name).name
    return repr(name) if flat == name else f"{name!r} (or {flat!r})"
