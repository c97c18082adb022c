"""Where the files of a model are: the user's folder, the Hub's cache, or fetched now; checked every time.

A pull downloads, compares each file with its digest and writes a receipt. Later uses compare size and
time with the receipt, which takes no time and no network; a file that changed is read again.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from reverie.errors import (
    DownloadError,
    InputError,
    MissingDependencyError,
    ModelCorruptError,
    ModelNotFoundError,
    StorageError,
)
from reverie.models import receipts
from reverie.models.cards import ModelCard, Source
from reverie.models.digests import matches_name, set_aside, sha256_of
from reverie.models.local import local_paths, local_stamp

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["FAMILIES", "Family", "ModelFiles", "find", "model_files", "pull", "source_of", "wanted"]

Family: TypeAlias = Literal["onnx", "torch"]
FAMILIES: tuple[Family, ...] = ("onnx", "torch")
"""Families of engines; each has files of its own."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model on this machine.

    Attributes:
        paths: By name in the card.
        weights: Empty for the card's own weights; for others 8 hexadecimal digits of their SHA-256,
            which go into the name of the encoder.
    """

    paths: Mapping[str, Path]
    weights: str


def model_files(
    card: ModelCard,
    family: Family,
    *,
    text: bool = False,
    vision: bool = True,
    model_dir: str | os.PathLike[str] | None = None,
) -> ModelFiles:
    """Find the files of a model, download those that are missing.

    Args:
        card: The model.
        family: ``"onnx"`` or ``"torch"``.
        text: Also what texts need.
        vision: What pictures need.
        model_dir: A folder or file of the user; then nothing else is looked at and nothing downloaded.

    Raises:
        ModelNotFoundError: They are not here and cannot be fetched; the message says what to do.
        ModelCorruptError: A file is damaged and cannot be fetched again; it was kept aside.
        DownloadError: A download failed on the way.
        MissingDependencyError: They are not here, and huggingface_hub is not installed.
        InputError: The model knows no texts, or nothing was asked for.
    """
    names = wanted(card, family, text=text, vision=vision)
    if model_dir is not None:
        source = source_of(card, family)
        paths = local_paths(card, source, names, Path(model_dir))
        return ModelFiles(paths, local_stamp(card, family, source, paths))
    return ModelFiles(_Search(card, family, names).run(), "")


def pull(card: ModelCard, family: Family, *, text: bool = False, vision: bool = True) -> ModelFiles:
    """As `model_files`, and read every file again that is here already. Raises what it raises."""
    names = wanted(card, family, text=text, vision=vision)
    return ModelFiles(_Search(card, family, names).run(thorough=True), "")


def find(card: ModelCard, family: Family) -> dict[str, Path]:
    """The files of a model that are on this machine, by name; not read, nothing downloaded."""
    search = _Search(card, family, wanted(card, family, text=card.text is not None, vision=True))
    return {name: path for name in search.names if (path := search.place(name)) is not None}


def source_of(card: ModelCard, family: Family) -> Source:
    """Where the files of one family come from.

    Raises:
        InputError: There is no such family.
    """
    if family not in FAMILIES:
        raise InputError(f"model files are for {' or '.join(FAMILIES)}, not for {family!r}")
    return card.onnx if family == "onnx" else card.torch


def wanted(card: ModelCard, family: Family, *, text: bool, vision: bool) -> tuple[str, ...]:
    """Names of the files that are needed, each once.

    Raises:
        InputError: The model knows no texts, or nothing was asked for.
    """
    source = source_of(card, family)
    if text and card.text is None:
        raise InputError(f"{card.name!r} knows no texts, only pictures")
    if not (text or vision):
        raise InputError("ask for pictures, for texts or for both")
    return tuple(dict.fromkeys((*(source.vision if vision else ()), *(source.text if text else ()))))


class _Search:
    """One search for files of one model."""

    def __init__(self, card: ModelCard, family: Family, names: Sequence[str]) -> None:
        self.card, self.family, self.names = card, family, names
        self.source = source_of(card, family)
        self.receipt = receipts.load(card.name, family, self.source)
        self.option = "" if family == "onnx" else f" --for {family}"
        self.damaged: list[Path] = []

    def run(self, *, thorough: bool = False) -> dict[str, Path]:
        """Where each file is; what is missing is downloaded. ``thorough`` reads every file again."""
        if not thorough and all(self.known(name) for name in self.names):
            return {name: Path(self.receipt.files[name].path) for name in self.names}
        found = {name: path for name in self.names if (path := self.examined(name, thorough)) is not None}
        missing = [name for name in self.names if name not in found]
        if missing:
            found |= self.fetched(missing)
        return {name: found[name] for name in self.names}

    def known(self, name: str) -> bool:
        """Whether a file is as it was when it was last read, and the one that the card means."""
        record = self.receipt.files.get(name)
        if record is None or record.sha256 != self.source.sha256.get(name, record.sha256):
            return False
        return record.unchanged()

    def place(self, name: str) -> Path | None:
        """Where a file is on this machine, unread."""
        record = self.receipt.files.get(name)
        if record is not None and Path(record.path).is_file():
            return Path(record.path)
        try:
            return _hub().cached(self.source.repo, self.receipt.commit or self.source.revision, name)  # type: ignore[no-any-return]
        except MissingDependencyError:
            return None

    def examined(self, name: str, thorough: bool) -> Path | None:
        """Where a sound file is; a wrong one is kept aside."""
        path, record = self.place(name), self.receipt.files.get(name)
        if path is None:
            return None
        if self.known(name) and not thorough:
            return path
        try:
            digest = sha256_of(path)
            expected = self.source.sha256.get(name) or (record.sha256 if record else "")
            if digest == expected or (not expected and matches_name(path, digest)):
                self.remember(name, path, digest)
                return path
            self.damaged.append(set_aside(path))
        except OSError as exc:
            raise ModelCorruptError(f"cannot read or move {path}: {exc.strerror}") from exc
        return None

    def fetched(self, names: Sequence[str]) -> dict[str, Path]:
        """Download files, or say why not and what to do."""
        hub = _hub(self.card.name)
        try:
            return self.downloaded(hub, names)
        except ModelNotFoundError as exc:
            if self.damaged:
                raise ModelCorruptError(self.damage(exc)) from exc
            raise ModelNotFoundError(self.absence(exc)) from exc

    def downloaded(self, hub: ModuleType, names: Sequence[str]) -> dict[str, Path]:
        """Download files and check each; the receipt is written after every one."""
        stated = hub.statement(self.source.repo, self.receipt.commit or self.source.revision, names)
        for name in names:
            pinned, there = self.source.sha256.get(name), stated.files[name].sha256
            if pinned and there and pinned != there:
                raise DownloadError(
                    f"{hub.endpoint()} states another SHA-256 of {name} in {self.source.repo} than reverie "
                    f"knows ({there[:12]}... in place of {pinned[:12]}...): nothing was fetched"
                )
        self.receipt = replace(self.receipt, commit=stated.commit)
        return {name: self.download(hub, stated, name) for name in names}

    def download(self, hub: ModuleType, stated: object, name: str) -> Path:
        """Download one file."""
        path: Path
        path, digest = hub.download(stated, name)
        pinned = self.source.sha256.get(name)
        if pinned and digest != pinned:
            aside = set_aside(path)
            raise ModelCorruptError(
                f"{name} of {self.source.repo} is not the file that reverie knows. It was kept as {aside}"
            )
        self.remember(name, path, digest)
        return path

    def remember(self, name: str, path: Path, digest: str) -> None:
        """Write into the receipt that a file was read and is right."""
        files = {**self.receipt.files, name: receipts.checked(path, digest)}
        self.receipt = replace(self.receipt, commit=self.receipt.commit or self.commit(), files=files)
        with contextlib.suppress(StorageError):  # without a receipt the file is read again next time
            self.receipt = receipts.save(self.receipt, self.source)

    def commit(self) -> str:
        """The commit of files that somebody else downloaded."""
        if _COMMIT.fullmatch(self.source.revision):
            return self.source.revision
        return str(_hub().cached_commit(self.source.repo, self.source.revision))

    def command(self) -> str:
        """What brings these files to a machine."""
        text = " --text" if set(self.names) - set(self.source.vision) else ""
        return f"reverie models pull {self.card.name}{text}{self.option}"

    def absence(self, why: Exception) -> str:
        """One message: what is missing, why, and what to do."""
        return (
            f"the model {self.card.name!r} is not on this machine, and {why}. On a connected machine: "
            f"{self.command()}; then copy the folder that "
            f"`reverie models path {self.card.name}{self.option}` names there (cp -rL) and give it here with "
            '--model-dir. encoder="descriptor" works now, without any download'
        )

    def damage(self, why: Exception) -> str:
        """One message: what was wrong, where it is now, and what to do."""
        kept = ", ".join(map(str, self.damaged))
        return (
            f"a file of the model {self.card.name!r} is cut or changed, and {why}. It was kept as {kept}. "
            f"With a connection: {self.command()}"
        )


def _hub(model: str = "") -> ModuleType:
    try:
        from reverie.models import hub  # noqa: PLC0415 - a second that most starts do not need
    except ImportError as exc:
        raise MissingDependencyError(
            f"the model {model!r} is not on this machine, and what downloads it is not installed: "
            'pip install "reverie[clip]". encoder="descriptor" works now, without any download'
        ) from exc
    return hub
