"""Entries that are duplicates of others, at three levels, and taking them out.

* ``bytes``: the same file.
* ``picture``: the same pixels, whatever file holds them (`reverie.cache.picture_digest`). A JPEG that was
  encoded anew has other pixels, so it is another picture.
* ``look``: vectors with a cosine of at least a threshold. Similar is not the same: nothing is removed for it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from reverie.cache.near_vectors import group_near, processors
from reverie.cache.picture_digest import picture_digest, picture_size
from reverie.cache.similarity_scale import Percentile, SimilarityScale, Threshold, threshold_of
from reverie.checks import check_number
from reverie.errors import (
    EntryNotFoundError,
    ImageError,
    InputError,
    StorageError,
    UnknownNameError,
    UnsafePathError,
)
from reverie.storage import content_hash

if TYPE_CHECKING:
    from reverie.cache.manager import CacheManager

__all__ = [
    "DEFAULT_LOOK",
    "LEVELS",
    "Duplicate",
    "DuplicateGroup",
    "DuplicateReport",
    "Removal",
    "find_duplicates",
    "remove_duplicates",
]

LEVELS = ("bytes", "picture", "look")
"""From the strictest to the loosest."""

DEFAULT_LOOK = 0.98
"""Lowest cosine of the same look. By the built-in descriptor, of 33 pictures: a JPEG of quality 75, half the
size and 1 % cut off each side stay above it (.983, .989, .991 at the least), two frames in a row of a loop
mostly do not (median .966), and no two of the pictures come near it (.72 at the most)."""

_UNREADABLE = (ImageError, UnsafePathError, StorageError)
_AT_ONCE = 32  # files that wait for a thread

Progress: TypeAlias = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Known(NamedTuple):
    """What is needed of an entry."""

    cache_id: str
    content_hash: str
    byte_size: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class Duplicate:
    """One entry of a group.

    Attributes:
        cache_id: Its id.
        similarity: Cosine with the group's oldest; 1 where bytes or pixels are the same.
        byte_size: Size of its file.
        pinned: Whether it is pinned: then it stays.
        children: How many entries name it as a parent.
    """

    cache_id: str
    similarity: float
    byte_size: int
    pinned: bool = False
    children: int = 0


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Entries that are duplicates of the oldest of them; groups are not chained.

    Attributes:
        members: At least two, oldest first; the first one represents the group.
    """

    members: tuple[Duplicate, ...]

    @property
    def kept(self) -> tuple[Duplicate, ...]:
        """What would stay: all that are pinned; where none is, the oldest."""
        return tuple(each for each in self.members if each.pinned) or self.members[:1]

    @property
    def removable(self) -> tuple[Duplicate, ...]:
        """What would go: all others."""
        kept = self.kept
        return tuple(each for each in self.members if each not in kept)


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """What was found.

    Attributes:
        level: One of `LEVELS`.
        threshold: The lowest cosine; None where bytes or pixels were compared.
        entries: How many were compared.
        groups: The oldest group first.
        without_vector: Entries that could not be compared by look.
        failures: Id to what is wrong with an image that could not be compared.
    """

    level: str
    threshold: float | None
    entries: int
    groups: tuple[DuplicateGroup, ...]
    without_vector: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def removable(self) -> int:
        """How many entries are duplicates of others that stay."""
        return sum(len(group.removable) for group in self.groups)

    @property
    def bytes_freed(self) -> int:
        """What their files take."""
        return sum(each.byte_size for group in self.groups for each in group.removable)


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of the duplicates.

    Attributes:
        removed: Id of each entry that went to the id of the one that stays for it.
        passed_over: Id of each other one to the reason.
    """

    removed: Mapping[str, str]
    passed_over: Mapping[str, str]


def find_duplicates(
    cache: CacheManager,
    level: str = "picture",
    threshold: Threshold = None,
    *,
    encoder: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DuplicateReport:
    """Groups of entries that are duplicates; nothing is changed, and nothing counts as a use.

    ``bytes`` goes by the content hashes in the index and reads only files that have none. ``picture`` also
    decodes every file that shares its size in pixels with another one. ``look`` compares all pairs of
    vectors, `reverie.cache.near_vectors` says how.

    Args:
        cache: An open cache.
        level: One of `LEVELS`.
        threshold: Of ``look``: a cosine such as 0.98, or a percentile such as ``"p99.9"`` of the cosines that
            the cache's own pictures have (`SimilarityScale`); None is `DEFAULT_LOOK`.
        encoder: Whose vectors ``look`` compares; may be left out while the cache holds vectors of one only.
        threads: That compare or decode; None takes one a processor, 8 at most.
        progress: Called now and then with how many of how many files or pairs are done.

    Raises:
        UnknownNameError: No such level.
        InputError: A threshold for another level than ``look``, or one that is none.
        EncoderMismatchError: Vectors of several encoders and none was named.
    """
    if level not in LEVELS:
        raise UnknownNameError(f"there is no level {level!r} of duplicates; there are: {', '.join(LEVELS)}")
    if level != "look" and threshold is not None:
        raise InputError(
            f"a threshold is for the level 'look': of {level!r}, two are the same or they are not"
        )
    search = _Search(cache, threads, progress or _ignore)
    return search.by_look(threshold, encoder) if level == "look" else search.by_files(level)


def remove_duplicates(
    cache: CacheManager, report: DuplicateReport, *, progress: Progress | None = None
) -> Removal:
    """Delete what `find_duplicates` calls removable, each after one more look at it and at what stays.

    An entry that was pinned since, or whose file or picture is no longer that of one that stays, is passed
    over. `parents` of other entries go on naming what was removed, as after an eviction: `Removal.removed`
    says which entry holds that picture now.

    Args:
        cache: The cache that was searched.
        report: What was found in it, at the level ``bytes`` or ``picture``.
        progress: Called after every group with how many of how many are done.

    Raises:
        InputError: The level is ``look``.
        StorageError: The disk refused; what was removed before stays removed.
    """
    if report.level == "look":
        raise InputError(
            "entries of the same look are similar, not the same: nothing is removed for a likeness. "
            "Choose among them by eye, or remove at the level bytes or picture"
        )
    measure: Callable[[bytes], Hashable] = bytes if report.level == "bytes" else picture_digest
    removed: dict[str, str] = {}
    passed_over: dict[str, str] = {}
    for done, group in enumerate(report.groups, 1):
        for cache_id, kept, why in _outcomes(cache, group, measure):
            (passed_over if why else removed)[cache_id] = why or kept
        if progress is not None:
            progress(done, len(report.groups))
    return Removal(removed, passed_over)


def _outcomes(
    cache: CacheManager, group: DuplicateGroup, measure: Callable[[bytes], Hashable]
) -> Iterator[tuple[str, str, str]]:
    """Remove what can go: each id, what stays for it and, where it was not removed, why."""
    kept, content = _first_readable(cache, group.kept, measure)
    pinned = cache.pinned()
    for each in group.removable:
        yield each.cache_id, kept, _remove(cache, each.cache_id, content, measure, pinned)


def _first_readable(
    cache: CacheManager, kept: Iterable[Duplicate], measure: Callable[[bytes], Hashable]
) -> tuple[str, Hashable | None]:
    for each in kept:
        with suppress(EntryNotFoundError, *_UNREADABLE):
            return each.cache_id, measure(cache.read_image(each.cache_id, as_use=False))
    return "", None


def _remove(
    cache: CacheManager,
    cache_id: str,
    content: Hashable | None,
    measure: Callable[[bytes], Hashable],
    pinned: frozenset[str],
) -> str:
    """Remove an entry whose file still has that content; else the reason why not."""
    if cache_id in pinned:
        return "it was pinned meanwhile"
    if content is None:
        return "what was to stay for it cannot be read"
    try:
        if measure(cache.read_image(cache_id, as_use=False)) != content:
            return "it is no longer the same as what stays"
    except EntryNotFoundError:
        return "it was removed meanwhile"
    except _UNREADABLE as exc:
        return str(exc)
    with suppress(EntryNotFoundError):  # another process was faster
        cache.remove(cache_id)
    return ""


def _ignore(_done: int, _total: int) -> None:
    """Nobody wants to know."""


class _Search:
    def __init__(self, cache: CacheManager, threads: int | None, progress: Progress) -> None:
        self._cache = cache
        self._threads = threads
        self._progress = progress
        self._failures: dict[str, str] = {}
        self._children: Counter[str] = Counter()
        self._known: dict[str, _Known] = {}
        for each in cache:
            self._children.update(set(each.parents))
            self._known[each.cache_id] = _Known(each.cache_id, each.content_hash, each.byte_size, each.pinned)

    # ------------------------------------------------------------------ bytes and pictures

    def by_files(self, level: str) -> DuplicateReport:
        same = self._same_bytes()
        if level == "picture":
            same = self._same_pictures(list(same))
        groups = [self._group(dict.fromkeys(ids, 1.0)) for ids in same if len(ids) > 1]
        return self._report(level, None, len(self._known) - len(self._failures), groups)

    def _same_bytes(self) -> Iterable[list[str]]:
        """Ids of each content, oldest first; a file that has no hash in the index is read."""
        hashes = {each.cache_id: each.content_hash for each in self._known.values() if each.content_hash}
        unknown = [cache_id for cache_id in self._known if cache_id not in hashes]
        hashes |= self._of_files(unknown, content_hash)
        return _together((cache_id, hashes[cache_id]) for cache_id in self._known if cache_id in hashes)

    def _same_pictures(self, contents: Sequence[list[str]]) -> Iterable[list[str]]:
        """Contents with the same pixels as one; only those of a size that another one has are decoded."""
        sizes = self._of_files([ids[0] for ids in contents], picture_size)
        often = Counter(sizes.values())
        digests: dict[str, str] = self._of_files(
            [cache_id for cache_id, size in sizes.items() if often[size] > 1], picture_digest
        )
        pictures = _together(
            (cache_id, digests.get(ids[0], (ids[0],))) for ids in contents for cache_id in ids
        )
        age = {cache_id: at for at, cache_id in enumerate(self._known)}
        return [sorted(ids, key=age.__getitem__) for ids in pictures]

    def _of_files(self, cache_ids: Sequence[str], measure: Callable[[bytes], Result]) -> dict[str, Result]:
        """What is measured of each file that can be read, by id; the others are noted."""
        found: dict[str, Result] = {}
        measured = _in_threads(lambda each: self._measure(each, measure), cache_ids, self._threads)
        for done, (cache_id, value) in enumerate(zip(cache_ids, measured, strict=True), 1):
            if value is not None:
                found[cache_id] = value
            self._progress(done, len(cache_ids))
        return found

    def _measure(self, cache_id: str, measure: Callable[[bytes], Result]) -> Result | None:
        try:
            return measure(self._cache.read_image(cache_id, as_use=False))
        except EntryNotFoundError:
            return None  # removed meanwhile
        except _UNREADABLE as exc:
            if cache_id in self._cache:
                self._failures[cache_id] = str(exc)
            return None

    # ------------------------------------------------------------------ looks

    def by_look(self, threshold: Threshold, encoder: str | None) -> DuplicateReport:
        vectors = self._cache.embeddings(encoder)
        lowest = threshold_of(DEFAULT_LOOK if threshold is None else threshold)
        if isinstance(lowest, Percentile):
            lowest = SimilarityScale.of(vectors).cosine(lowest.value)
        lowest = check_number("the threshold", lowest)
        leaders = group_near(vectors.matrix, lowest, threads=self._threads, progress=self._progress)
        found: dict[int, dict[str, float]] = defaultdict(dict)
        for at, (leader, cosine) in enumerate(zip(leaders.of.tolist(), leaders.cosine.tolist(), strict=True)):
            if vectors.ids[at] in self._known and vectors.ids[leader] in self._known:
                found[leader][vectors.ids[at]] = cosine
        groups = [self._group(similar) for _, similar in sorted(found.items()) if len(similar) > 1]
        return self._report("look", lowest, len(vectors), groups)

    # ------------------------------------------------------------------ the report

    def _group(self, similar: Mapping[str, float]) -> DuplicateGroup:
        members = (
            Duplicate(cache_id, cosine, known.byte_size, known.pinned, self._children[cache_id])
            for cache_id, cosine in similar.items()
            for known in [self._known[cache_id]]
        )
        return DuplicateGroup(tuple(members))

    def _report(
        self, level: str, threshold: float | None, entries: int, groups: Iterable[DuplicateGroup]
    ) -> DuplicateReport:
        without = max(0, len(self._known) - entries) if level == "look" else 0
        return DuplicateReport(level, threshold, entries, tuple(groups), without, self._failures)


def _together(pairs: Iterable[tuple[str, Hashable]]) -> Iterable[list[str]]:
    found: dict[Hashable, list[str]] = {}
    for cache_id, key in pairs:
        found.setdefault(key, []).append(cache_id)
    return found.values()


def _in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None
) -> Iterator[Result]:
    """``work`` of every item, in order; a few wait at a time, so that results do not pile up."""
    waiting = iter(items)
    with ThreadPoolExecutor(threads or processors(), "reverie-duplicates") as pool:
        while part := list(islice(waiting, _AT_ONCE)):
            yield from pool.map(work, part)
