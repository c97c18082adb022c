"""What `reverie cache similar`, `search` and `tag` do: encode a query, compare it, lay out what was found."""

from __future__ import annotations

import os
import shlex
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie import registry
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.similarity import as_target
from reverie.cache.similarity_scale import Percentile, SimilarityScale, Threshold, threshold_of
from reverie.cli.downloading import downloads
from reverie.cli.output import Column, note, plain, print_table, say
from reverie.cli.params import given
from reverie.cli.place import Place, entries_of, known_ids
from reverie.entry import CacheEntry
from reverie.errors import (
    EncoderMismatchError,
    EntryNotFoundError,
    ImageNotFoundError,
    InputError,
    UnknownNameError,
)
from reverie.protocols import TextEncoder
from reverie.vectors import Embedding, EmbeddingSet

if TYPE_CHECKING:
    from reverie.cache.manager import CacheManager
    from reverie.cache.zero_shot import Tag
    from reverie.query import Where

__all__ = [
    "Finder",
    "Found",
    "Match",
    "Tagged",
    "print_found",
    "print_tagged",
    "registered_name",
    "told",
    "weighed",
]

_PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
_NEITHER = "{!r} is neither an entry of this cache nor an image file"


@dataclass(frozen=True, slots=True)
class Match:
    """An entry and how similar it is; to a picture also in words, by ``scale``."""

    entry: CacheEntry
    similarity: float
    scale: SimilarityScale | None

    @property
    def band(self) -> str | None:
        """The specification's words; None for a query with texts, whose cosines they do not fit."""
        return None if self.scale is None else self.scale.describe(self.similarity)

    def record(self) -> dict[str, Any]:
        """The match as JSON takes it."""
        own = self.scale if self.scale is not None and self.scale.calibrated else None
        return {
            "cache_id": self.entry.cache_id,
            "similarity": self.similarity,
            "band": self.band,
            "percentile": None if own is None else round(own.percentile(self.similarity), 3),
            "image_path": str(self.entry.image_path),
            "prompt": self.entry.prompt,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, high to low.

    Attributes:
        matches: The entries.
        scale: What their words go by; None for a query with texts.
        lowest: The cosine that a percentile stood for; None when none was asked for.
    """

    matches: Sequence[Match]
    scale: SimilarityScale | None
    lowest: float | None = None

    def without_words(self) -> Found:
        """The same without the words: those are for two pictures, not for a text and a picture."""
        return Found([replace(match, scale=None) for match in self.matches], None, self.lowest)


@dataclass(frozen=True, slots=True)
class Tagged:
    """An entry and its labels, likeliest first."""

    entry: CacheEntry
    tags: Sequence[Tag]

    def record(self) -> dict[str, Any]:
        """The labels as JSON takes them."""
        return {
            "cache_id": self.entry.cache_id,
            "tags": [{"label": label, "probability": probability} for label, probability in self.tags],
            "image_path": str(self.entry.image_path),
        }


class Finder:
    """Searches one open cache with the encoder that its vectors were made with, or with the one named.

    Args:
        cache: An open cache.
        place: Where it is, for the command that an error names.
        where: Conditions that what is found fulfils; None: none.
        encoder: A registered name; None finds out by itself.
        **options: Of the encoder: ``threads``, ``model_dir``; None for one that was not given.
    """

    def __init__(
        self,
        cache: CacheManager,
        place: Place,
        where: Where | None,
        encoder: str | None = None,
        **options: Any,
    ) -> None:
        self._cache, self._place, self._encoder = cache, place, encoder
        self._where = where
        self._options = given(options)

    def similar(self, target: str, top_k: int, threshold: Threshold) -> Found:
        """The entries most like an entry (itself left out) or an image file.

        Raises:
            EntryNotFoundError: The target is neither.
            EncoderMismatchError: Another encoder made the cache's vectors.
            ReverieError: The image cannot be encoded.
        """
        stored = self._stored(target) if self._encoder is None else None
        if stored is not None:
            candidates, vector = self._cache.embeddings(stored.encoder), stored
        else:
            matcher, candidates = self._ready(texts=False)
            vector = self._picture(matcher, target)
        return self._found(vector, SimilarityScale.of(candidates), top_k, threshold, without={target})

    def search(
        self,
        plus: Sequence[tuple[str, float]],
        minus: Sequence[tuple[str, float]],
        top_k: int,
        threshold: Threshold,
    ) -> Found:
        """The entries most like a weighted sum of texts, image files and entries (which are left out).

        Raises:
            EntryNotFoundError: A part has the name of an image file that is not there.
            InputError: A part is empty.
            EncoderMismatchError: Another encoder made the cache's vectors.
            ReverieError: A part cannot be encoded.
        """
        if not len(self._cache):
            return Found((), None)  # before a model is fetched for nothing
        named = dict.fromkeys(item for item, _ in (*plus, *minus))
        if not all(item.strip() for item in named):
            raise InputError("an empty text means nothing: say what to look for")
        texts = {item for item in named if self._is_text(item)}
        matcher, candidates = self._ready(texts=bool(texts))
        vectors = {
            item: matcher.encode_text(item) if item in texts else self._picture(matcher, item)
            for item in named
        }
        vector = matcher.combine(
            [(vectors[item], weight) for item, weight in plus],
            [(vectors[item], weight) for item, weight in minus],
        )
        scale = SimilarityScale.to(vector, candidates) if texts else SimilarityScale.of(candidates)
        found = self._found(vector, scale, top_k, threshold, without=set(named))
        return found.without_words() if texts else found

    def tags(
        self, cache_ids: Sequence[str], labels: Sequence[str], templates: Sequence[str], top_k: int
    ) -> Iterator[Tagged]:
        """The likeliest labels of entries; without ids of all that have a vector of the encoder.

        Raises:
            EntryNotFoundError: No entry of that id.
            EncoderMismatchError: Another encoder made the cache's vectors.
            InputError: A label is empty, or a template lacks ``{}``.
        """
        wanted = known_ids(self._cache, cache_ids)
        if not len(self._cache):
            return
        matcher, candidates = self._ready(texts=True)
        tagger = matcher.tagger(labels, templates)
        for entry in entries_of(self._cache, wanted or candidates.ids):
            yield Tagged(entry, tagger(self._vector(matcher, entry))[:top_k])

    # ------------------------------------------------------------------------------ the encoder

    def _ready(self, *, texts: bool) -> tuple[AestheticMatcher, EmbeddingSet]:
        """A matcher, and the vectors of its encoder; there are none only in a cache without entries.

        Checked before anything is encoded: a model is not fetched for a search that finds nothing.
        """
        name = self._encoder or self._own(texts=texts) or ("clip" if texts else "descriptor")
        matcher = AestheticMatcher(name, **self._options)
        found = self._cache.embeddings(matcher.encoder.name)
        if not found.ids and len(self._cache):
            raise EncoderMismatchError(self._no_vectors(name, matcher.encoder.name))
        return matcher, found

    def _own(self, *, texts: bool) -> str | None:
        """The registered encoder of most vectors here; None when it must know texts and does not."""
        name = registered_name(_most_frequent(self._cache))
        if name is None or not texts:
            return name
        return name if isinstance(AestheticMatcher(name).encoder, TextEncoder) else None

    def _no_vectors(self, name: str, stamp: str) -> str:
        made = sorted(_stamps(self._cache))
        if any(other.startswith(f"{stamp}+") for other in made):
            way_out = "they are of other weights: name their folder with --model-dir"
        else:
            folder = self._options.get("model_dir")
            own = f" --model-dir {shlex.quote(folder)}" if folder else ""
            way_out = f"make new ones with: reverie cache reindex --encoder {name}{own}{self._place.option()}"
        makers = f"its vectors are of {' and '.join(made)}" if made else "it has no vectors"
        return f"this cache has no vector of the encoder {stamp!r}; {makers}; {way_out}"

    # -------------------------------------------------------------------------------- the query

    def _is_text(self, item: str) -> bool:
        # os.path.isfile: Path.is_file raises for a text that is too long to be a file name.
        if item in self._cache or os.path.isfile(item):  # noqa: PTH113
            return False
        if Path(item).suffix.lower() in _PICTURE_ENDINGS and len(item.split()) == 1:
            raise EntryNotFoundError(_NEITHER.format(item))
        return True

    def _picture(self, matcher: AestheticMatcher, target: str) -> Embedding:
        if target in self._cache:
            return self._vector(matcher, entries_of(self._cache, [target])[0])
        try:
            return matcher.encode_image(Path(target))
        except ImageNotFoundError as exc:
            raise EntryNotFoundError(_NEITHER.format(target)) from exc

    def _stored(self, target: str) -> Embedding | None:
        return entries_of(self._cache, [target])[0].embedding if target in self._cache else None

    def _vector(self, matcher: AestheticMatcher, entry: CacheEntry) -> Embedding:
        if entry.embedding is not None and entry.encoder == matcher.encoder.name:
            return entry.embedding
        return matcher.encode_image(entry.image_path)

    def _found(
        self,
        vector: Embedding,
        scale: SimilarityScale,
        top_k: int,
        threshold: Threshold,
        *,
        without: set[str],
    ) -> Found:
        lowest = threshold_of(threshold)
        cut = None
        if isinstance(lowest, Percentile):
            lowest = cut = scale.cosine(lowest.value)
        chosen = [each for each in self._near(vector, top_k + len(without), lowest) if each[0] not in without]
        entries = entries_of(self._cache, [cache_id for cache_id, _ in chosen[:top_k]])
        matches = [Match(entry, score, scale) for entry, (_, score) in zip(entries, chosen, strict=False)]
        return Found(matches, scale, cut)

    def _near(self, vector: Embedding, count: int, lowest: float | None) -> list[tuple[str, float]]:
        """Ids and cosines of what is most like a vector, high to low."""
        rows = self._cache.vector_rows(vector.encoder)
        among = self._cache.among(rows, self._where) if self._where else None
        folder = self._cache.metadata_dir / "search"
        with closing(registry.create("searchers", "auto", folder=folder)) as searcher:
            found = searcher.search(rows, as_target(vector, rows), count, threshold=lowest, among=among)
        ids = [rows.ids[place] for place in found.places.tolist()]
        return list(zip(ids, found.scores.tolist(), strict=True))


def registered_name(stamp: str | None) -> str | None:
    """The registered encoder that stamps its vectors so; None when there is none.

    ``clip-vit-b32-int8+1a2b3c4d`` is ``clip-vit-b32:int8`` (with weights of its own), ``descriptor-v1`` is
    ``descriptor``.
    """
    bare = (stamp or "").partition("+")[0]
    for name in sorted(registry.names("encoders"), key=len, reverse=True):
        if bare == name:
            return name
        if bare.startswith(f"{name}-"):
            variant = f"{name}:{bare[len(name) + 1 :]}"
            return variant if _is_registered(variant) else name
    return None


def _is_registered(name: str) -> bool:
    try:
        registry.check("encoders", name)
    except UnknownNameError:
        return False
    return True


def _most_frequent(cache: CacheManager) -> str | None:
    """The stamp of most vectors in a cache."""
    try:
        return cache.embeddings().encoder
    except EncoderMismatchError:  # there are several
        return _stamps(cache).most_common(1)[0][0]


def _stamps(cache: CacheManager) -> Counter[str]:
    return Counter(entry.encoder or "an unknown encoder" for entry in cache if entry.embedding is not None)


def weighed(argument: str, cache: CacheManager) -> tuple[str, float]:
    """``"wings:2"`` as an item and its weight; without one, or for the name of an entry or a file, 1."""
    item, colon, weight = argument.rpartition(":")
    if not colon or not item or argument in cache or os.path.isfile(argument):  # noqa: PTH113
        return argument, 1.0
    try:
        return item, float(weight)
    except ValueError:  # the colon is part of the text
        return argument, 1.0


@contextmanager
def told() -> Iterator[None]:
    """On standard error: how downloads go, and a line for what the library warns of (a text that was cut)."""
    with warnings.catch_warnings(record=True) as caught, downloads():
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        note(f"note: {plain(str(warning.message))}")


# ------------------------------------------------------------------------------------- layout


def print_found(found: Found) -> None:
    """Print what was found as a table, and what words and percentile mean; a sentence when it is nothing."""
    if not found.matches:
        say("nothing in this cache is that similar")
    else:
        print_table(*_layout(found))
    meanings = [] if found.scale is None or not found.matches else [f"in words: {found.scale}"]
    if found.lowest is not None:
        meanings.append(f"the percentile is a cosine of {found.lowest:.3f} here")
    if meanings:
        say()
    for meaning in meanings:
        say(meaning)


def _layout(found: Found) -> tuple[list[Column], list[list[str]]]:
    words = [] if found.scale is None else [Column("in words")]
    columns = [Column("id"), Column("similarity", right=True), *words, Column("prompt", flexible=True)]
    rows = []
    for match in found.matches:
        described = [] if match.band is None else [match.band]
        similarity = f"{round(match.similarity, 3) + 0.0:.3f}"  # + 0.0: never -0.000
        rows.append([match.entry.cache_id, similarity, *described, match.entry.prompt])
    return columns, rows


def print_tagged(tagged: Iterable[Tagged]) -> None:
    """Print entries and their labels as a table; a sentence when there is none."""
    rows = [
        [each.entry.cache_id, ", ".join(f"{label} {100 * chance:.0f} %" for label, chance in each.tags)]
        for each in tagged
    ]
    if not rows:
        say("this cache is empty: there is nothing to tag")
        return
    print_table([Column("id"), Column("labels", flexible=True)], rows)
