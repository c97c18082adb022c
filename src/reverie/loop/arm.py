"""One loop of a run, with its folder: frames, journal, vectors, and how to go on after it was stopped.

A line of the journal is what makes a frame count: everything else of it (picture, vector, entry in memory)
is written before, and what has no line is made again, bit for bit the same.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from reverie.diversity import hard_cuts, mean_pairwise, motifs, replay, vendi
from reverie.errors import InputError
from reverie.loop.driver import FrameDone
from reverie.loop.injector import Injector
from reverie.loop.journal import Journal, read_journal
from reverie.loop.lineage import Lineage
from reverie.loop.observed import Observed, Relived
from reverie.loop.recording import JOURNAL, VECTORS, frame_name, imagined_name, read_vectors, seed_name
from reverie.loop.spectator import Spectator
from reverie.memory import ImageMemory
from reverie.metadata import own_texts
from reverie.pixels import Pixels, to_pixels
from reverie.storage import replace_file, storage_error
from reverie.vectors import Embedding, as_embedding

__all__ = ["Arm", "summary"]


def summary(embeddings: list[Embedding]) -> dict[str, float]:
    """The figures of a whole run, from the unit vectors of its frames in order.

    Returns:
        ``effective_images`` and ``effective_images_last_100`` (Vendi), ``pairwise`` (mean cosine of
        the last 60 frames), ``motifs``, ``stuck`` (share of frames whose last 20 have a mean cosine
        above .85), ``hard_cuts`` (steps above .3), ``replay`` (share of frames that repeat one at
        least 30 before). Empty for no frames.
    """
    if not embeddings:
        return {}
    rows = np.stack([np.asarray(embedding) for embedding in embeddings])
    windows = [mean_pairwise(rows[end - 20 : end]) for end in range(20, len(rows) + 1)]
    figures = {
        "effective_images": vendi(rows),
        "effective_images_last_100": vendi(rows[-100:]),
        "pairwise": mean_pairwise(rows[-60:]),
        "motifs": float(motifs(rows)),
        "stuck": sum(value > 0.85 for value in windows) / max(1, len(windows)),
        "hard_cuts": float(hard_cuts(rows)),
        "replay": replay(rows),
    }
    return {name: round(value, 4) for name, value in figures.items()}


class Arm:
    """One loop with its folder, journal and results.

    Args:
        name: Of the folder.
        title: For people.
        folder: Made when it is not there.
        observer: What watches the loop.

    Raises:
        StorageError: The disk refused.
    """

    def __init__(self, name: str, title: str, folder: Path, observer: Injector | Spectator) -> None:
        self.name = name
        self.title = title
        self.observer = observer
        self.folder = folder
        self.frames = 0
        self._sources: dict[str, str] = {}  # id in memory -> its picture in the arm's folder
        self._embeddings: list[Embedding] = []
        self._injections = 0
        try:
            (folder / "frames").mkdir(parents=True, exist_ok=True)
            self._vectors = (folder / VECTORS).open("ab", buffering=0)
        except OSError as exc:
            raise storage_error(f"make {folder}", exc) from exc
        self.journal = Journal(folder / JOURNAL)

    def save_frame(self, number: int, pixels: Pixels, texts: Mapping[str, str] | None = None) -> str:
        """Write the picture of a frame, with what it says of itself; gives its name."""
        return self._save(frame_name(number), pixels, texts)

    def remember_seeds(self, memory: ImageMemory, seeds: Sequence[Pixels]) -> None:
        """Pin the seed pictures in memory, and keep them beside the frames; goes on where it was stopped."""
        names = self._remembered_seeds(memory)
        for number, pixels in enumerate(seeds):
            cache_id, params = names.get(number), {"seed_picture": number}
            if cache_id is None:
                cache_id = memory.remember(pixels, generation_params=params, pinned=True).cache_id
            if cache_id is not None:
                self._sources[cache_id] = self._save(seed_name(number), pixels, own_texts("", params))

    @staticmethod
    def _remembered_seeds(memory: ImageMemory) -> dict[int, str]:
        entries = memory.cache.peek(sorted(memory.cache.pinned()))
        numbers = {each.generation_params.get("seed_picture"): each.cache_id for each in entries}
        return {number: cache_id for number, cache_id in numbers.items() if isinstance(number, int)}

    def _save(self, name: str, pixels: Pixels, texts: Mapping[str, str] | None = None) -> str:
        buffer, info = io.BytesIO(), PngImagePlugin.PngInfo()
        for key, text in (texts or {}).items():
            info.add_itxt(key, text)
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1, pnginfo=info)
        path = self.folder / name
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as exc:
            raise storage_error(f"make {path.parent}", exc) from exc
        replace_file(path, [buffer.getvalue()], durable=False)
        return name

    # ------------------------------------------------------------------ recording

    def record(self, done: FrameDone) -> None:
        """Write the frame, its vector and its line: whatever cuts it off, whole frames are counted only."""
        observed = done.observed
        image = self.save_frame(done.frame, done.pixels, self._texts(done))
        self._append(observed.embedding)
        injected = self._injected(done)
        target = observed.target
        self.journal.write(
            {
                "frame": done.frame,
                "seed": done.seed,
                "image": image,
                "prompt": done.prompt,
                "strength": done.params["strength"],
                "cache_id": observed.cache_id,
                "stored": observed.stored,
                "parents": list(observed.parents),
                "weights": list(observed.weights),
                "depth": observed.depth,
                "policy": self.observer.policy_name,
                "reason": observed.decision.reason,
                "numbers": dict(observed.decision.numbers),
                "injected": injected,
                "towards": None if target is None or target.entry is None else target.entry.cache_id,
                "arrived": observed.arrived,
                "shown": _shown(done),
                "loop": None if observed.state is None else asdict(observed.state),
                "colour": _colour(observed),
                "measures": observed.measures,
                "times_ms": done.times_ms,
                "state": self.observer.state(),
            }
        )
        self._count(observed.embedding, done.frame, injected is not None, observed.cache_id)

    def _texts(self, done: FrameDone) -> dict[str, str]:
        """What the picture of a frame says of how it was made."""
        observed = done.observed
        params = {**done.params, "policy": self.observer.policy_name, "depth": observed.depth}
        return own_texts(done.prompt, params, dict(zip(observed.parents, observed.weights, strict=True)))

    def _append(self, embedding: Embedding) -> None:
        """One row after the rows of the frames before."""
        data = np.ascontiguousarray(embedding, dtype="<f4").tobytes()
        try:
            self._vectors.truncate(self.frames * len(data))
            self._vectors.seek(0, os.SEEK_END)
            self._vectors.write(data)
        except OSError as exc:
            raise storage_error(f"write {self._vectors.name}", exc) from exc

    def _count(self, embedding: Embedding, frame: int, injected: bool, cache_id: str | None) -> None:
        self.frames = frame
        self._embeddings.append(embedding)
        self._injections += injected
        if cache_id is not None:
            self._sources[cache_id] = frame_name(frame)

    def _injected(self, done: FrameDone) -> dict[str, Any] | None:
        """What the loop sets out for at this frame; None in most."""
        injection, target = done.injection, done.observed.target
        if injection is None or injection.step != 1 or target is None:
            return None
        found: dict[str, Any] = {"kind": injection.kind, "similarity": round(injection.similarity, 6)}
        if target.entry is None:
            name = imagined_name(done.frame)
            return {"cache_id": None, **found, "source": self._save(name, target.pixels)}
        cache_id = target.entry.cache_id
        own = frame_name(done.frame) if cache_id == done.observed.cache_id else None
        return {"cache_id": cache_id, **found, "source": own or self._sources.get(cache_id)}

    # ------------------------------------------------------------------ going on

    def go_on(
        self, dimensions: int, encoder: str, latent_of: Callable[[Pixels], Any] | None = None
    ) -> Pixels | None:
        """Live through the journal again; gives the next input, or None when there is no frame yet.

        Args:
            dimensions: Of the vectors.
            encoder: Name of the encoder that made them.
            latent_of: Gives the latent of a frame that a generator made, where it keeps that.

        Raises:
            InputError: The journal or the vectors do not belong together, or are of another encoder.
            ImageError: A picture that is needed is broken.
            StorageError: They cannot be read.
        """
        lines = read_journal(self.journal.path)
        if not lines:
            if not isinstance(self.observer, Spectator):
                self.observer.begin()
            return None
        rows = read_vectors(self.folder / VECTORS, len(lines), dimensions)
        for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
            if line.get("frame") != number:
                raise InputError(f"{self.journal.path}: line {number} is not frame {number}")
            embedding = as_embedding(row, encoder=encoder)
            self.observer.relive(_relived(line, embedding))
            self._count(embedding, number, bool(line["injected"]), line["cache_id"])
        shown = to_pixels(self.folder / frame_name(self.frames))
        if isinstance(self.observer, Spectator):
            self.observer.restore(lines[-1]["state"])
            return shown
        self.observer.adopt(self._unrecorded(self.observer.memory))
        own = latent_of is not None and lines[-1]["shown"] is None and self.observer.uses_latents
        latents = latent_of(shown) if own and latent_of is not None else None
        return self.observer.restore(lines[-1]["state"], shown, self._imagined(lines), latents)

    def _imagined(self, lines: Sequence[Mapping[str, Any]]) -> Pixels | None:
        """The picture that was imagined last, for a loop that is on the way to it."""
        names = [
            line["injected"]["source"]
            for line in lines
            if line["injected"] and line["injected"]["kind"] == "imagined"
        ]
        return to_pixels(self.folder / names[-1]) if names else None

    def _unrecorded(self, memory: ImageMemory) -> str | None:
        """The entry of the frame that was stored, but not recorded, when the loop was stopped."""
        ids = memory.embeddings().ids[-1:]
        new = [each for each in memory.cache.peek(ids) if each.cache_id not in self._sources]
        return next((e.cache_id for e in new if e.generation_params.get("frame") == self.frames + 1), None)

    # ------------------------------------------------------------------ results

    def result(self) -> dict[str, Any]:
        """Its part of ``run.json``."""
        return {
            "name": self.name,
            "title": self.title,
            "policy": self.observer.policy_name,
            "folder": self.name,
            "frames": self.frames,
            "injections": self._injections,
            "summary": summary(self._embeddings),
        }

    def close(self) -> None:
        """Close the journal and the vectors; calling it twice is fine."""
        self.journal.close()
        self._vectors.close()


def _shown(done: FrameDone) -> dict[str, Any] | None:
    shown = done.observed.shown
    if shown is None:
        return None
    return {"how": shown.how, "share": shown.share, "made": shown.made, "taken": shown.taken}


def _colour(observed: Observed) -> dict[str, Any] | None:
    """Colour drift in words, and why the next input was put right."""
    drift = observed.colour
    return None if drift is None else {"drift": drift.words, "corrected": observed.corrected or None}


def _relived(line: Mapping[str, Any], embedding: Embedding) -> Relived:
    injected = line["injected"]
    return Relived(
        embedding=embedding,
        cache_id=line["cache_id"],
        lineage=Lineage(dict(zip(line["parents"], line["weights"], strict=True)), line["depth"]),
        set_out=injected is not None,
        target=None if injected is None else injected["cache_id"],
        arrived=line["arrived"],
    )
