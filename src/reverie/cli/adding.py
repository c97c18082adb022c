"""What `reverie cache add` does, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.folder import index_on_disk
from reverie.cache.manager import CacheManager
from reverie.cli.downloading import downloads
from reverie.cli.output import complain, count, json_line, near, plain, say
from reverie.cli.params import given
from reverie.cli.place import Place
from reverie.cli.searching import told
from reverie.entry import CacheEntry
from reverie.errors import ImageError, InputError, StorageError
from reverie.vectors import Embedding

__all__ = ["Adding"]

_JSON_UP_TO = 500  # images: a new cache of more starts with a database, as CacheManager's own rule has it


class Adding:
    """Adds images one by one and says what became of each.

    Args:
        images: File names.
        place: Where the cache is, or will be.
        prompt: For all of them.
        params: For all of them; None for none.
        encoder: Name of a registered encoder, or ``none``.
        pin: Whether to pin them.
        max_size: Evict past so many entries; None for no limit.
        as_json: Whether to speak JSON.
        options: Of the encoder; None for one that was not given.
    """

    def __init__(
        self,
        images: Sequence[str],
        place: Place,
        *,
        prompt: str,
        params: dict[str, Any] | None,
        encoder: str,
        pin: bool,
        max_size: int | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        self._images = images
        self._place = place
        self._about: dict[str, Any] = {"prompt": prompt, "generation_params": params, "pinned": pin}
        self._matcher = None if encoder == "none" else AestheticMatcher(encoder, **given(options))
        self._max_size = max_size
        self._as_json = as_json
        self._evicted: list[str] = []
        self._evictions = 0

    def run(self) -> bool:
        """Add them all; False when some could not be used.

        Raises:
            InputError: There are no images.
            ReverieError: The encoder is not there, or the cache cannot be opened or written.
        """
        if not self._images:
            raise InputError("no images were named on standard input")
        if self._matcher is not None:
            with downloads():  # a missing encoder or model is an error before a folder is made
                self._matcher.load()
        with told():
            opened = self._open()
        with opened as cache:
            cache.on_evicted.append(self._note_eviction)
            added = sum([self._add(cache, image) for image in self._images])
            if not self._as_json:
                self._summary(added, len(cache))
        return added == len(self._images)

    def _open(self) -> CacheManager:
        """Open or make the cache. The limit comes after, so that evictions are noted and follow an add."""
        new = index_on_disk(self._place.path / "metadata") is None
        few = (self._max_size or len(self._images)) <= _JSON_UP_TO
        cache = CacheManager(self._place.path, None, index="json" if new and few else "auto")
        cache.max_size = self._max_size
        return cache

    def _add(self, cache: CacheManager, image: str) -> bool:
        try:
            vector = self._encode(image)
            cache_id = cache.add(image, embedding=vector, **self._about)
        except ImageError as exc:
            self._say(image, None, str(exc))
            return False
        self._say(image, cache_id, None, next(iter(cache.peek([cache_id])), None))
        return True

    def _encode(self, image: str) -> Embedding | None:
        try:
            return None if self._matcher is None else self._matcher.encode_image(image)
        except StorageError as exc:
            raise ImageError(str(exc)) from exc  # this file cannot be read; the next one may be

    def _note_eviction(self, entry: CacheEntry) -> None:
        self._evicted.append(entry.cache_id)
        self._evictions += 1

    def _say(
        self, image: str, cache_id: str | None, error: str | None, entry: CacheEntry | None = None
    ) -> None:
        program = None if entry is None or self._about["generation_params"] else _program(entry)
        if self._as_json:
            json_line(
                {
                    "image": image,
                    "cache_id": cache_id,
                    "error": error,
                    "prompt": None if entry is None else entry.prompt,
                    "metadata": program,
                    "evicted": self._evicted,
                }
            )
        elif cache_id is not None:
            said = f"  ({plain(program)} says how it was made)" if program else ""
            say(f"{cache_id}  {plain(image)}{said}")
        if error is not None:
            complain(error)
        self._evicted = []

    def _summary(self, added: int, total: int) -> None:
        parts = [f"{added:,} added"]
        if added < len(self._images):
            parts.append(f"{len(self._images) - added:,} not")
        if self._evictions:
            parts.append(f"{self._evictions:,} evicted")
        say(f"{', '.join(parts)}: {count(total, 'entry', 'entries')} in {near(self._place.path)}")


def _program(entry: CacheEntry) -> str | None:
    """The program that the parameters were read from, as far as they say."""
    said = entry.generation_params.get("metadata")
    source = said.get("source") if isinstance(said, dict) else None
    return source if isinstance(source, str) else None
