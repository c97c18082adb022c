"""What `reverie cache duplicates` does and shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from reverie.cache.duplicates import (
    Duplicate,
    DuplicateGroup,
    DuplicateReport,
    Removal,
    find_duplicates,
    remove_duplicates,
)
from reverie.cache.similarity_scale import Threshold
from reverie.cli.asking import agreed
from reverie.cli.counting import counted
from reverie.cli.main import OURS
from reverie.cli.output import Column, complain, count, json_line, near, print_table, say, size
from reverie.cli.place import Place, open_cache
from reverie.errors import InputError

if TYPE_CHECKING:
    from reverie.cache.manager import CacheManager

__all__ = ["result", "run"]

_ALIKE = {"bytes": "the same bytes", "picture": "the same picture", "look": "the same look"}


def run(
    place: Place,
    level: str,
    threshold: Threshold,
    *,
    encoder: str | None,
    remove: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Find duplicates, show them, remove them if that is wanted; the exit code.

    Raises:
        InputError: A threshold at another level than look, or removal at that level.
        ReverieError: The cache cannot be used, or the disk refused.
    """
    if remove and level == "look":
        raise InputError(
            "--remove is for --level bytes and picture: entries of the same look are similar, not the same. "
            "Look at them, then remove the ones you choose with: reverie cache remove ID..."
        )
    with open_cache(place) as cache:
        with counted("comparing") as tell:
            found = find_duplicates(cache, level, threshold, encoder=encoder, progress=tell)
        if not as_json:
            _show(cache, found, place, offer=not remove)
        removal = _remove(cache, found, yes) if remove else None
    _tell_failures(found, removal)
    if as_json:
        json_line(result(found, removal))
    elif removal is not None:
        say(_removed(found, removal, place))
    return OURS if found.failures or (removal and removal.passed_over) else 0


def _remove(cache: CacheManager, found: DuplicateReport, yes: bool) -> Removal:
    if not found.removable:
        return Removal({}, {})
    entries = count(found.removable, "entry", "entries")
    agreed(f"Remove {entries} and the images ({size(found.bytes_freed)})?", yes)
    with counted("removing") as tell:
        return remove_duplicates(cache, found, progress=tell)


def _tell_failures(found: DuplicateReport, removal: Removal | None) -> None:
    for cache_id, error in found.failures.items():
        complain(f"{cache_id} was not compared: {error}")
    for cache_id, why in (removal.passed_over if removal else {}).items():
        complain(f"{cache_id} was not removed: {why}")


# ------------------------------------------------------------------------------------ for machines


def result(found: DuplicateReport, removal: Removal | None) -> dict[str, Any]:
    """What was found, and what was removed, as JSON takes it."""
    return {
        "level": found.level,
        "threshold": found.threshold,
        "entries": found.entries,
        "without_vector": found.without_vector,
        "groups": [_group(group) for group in found.groups],
        "removable": found.removable,
        "bytes_freed": found.bytes_freed,
        "failed": [{"cache_id": each, "error": error} for each, error in found.failures.items()],
        "removed": None if removal is None else removal.removed,
        "passed_over": None if removal is None else removal.passed_over,
    }


def _group(group: DuplicateGroup) -> dict[str, Any]:
    return {
        "representative": group.members[0].cache_id,
        "kept": [each.cache_id for each in group.kept],
        "removable": [each.cache_id for each in group.removable],
        "members": [asdict(each) for each in group.members],
    }


# ------------------------------------------------------------------------------------ for people


def _show(cache: CacheManager, found: DuplicateReport, place: Place, *, offer: bool) -> None:
    if found.groups:
        print_table(*_layout(cache, found))
        say()
    for line in _sentences(found, place, offer):
        say(line)


def _layout(cache: CacheManager, found: DuplicateReport) -> tuple[list[Column], list[list[str]]]:
    by_look = found.level == "look"
    columns = [
        Column("oldest" if by_look else "stays"),
        Column("looks like it" if by_look else "goes"),
        *([Column("similarity", right=True)] if by_look else []),
        Column("size", right=True),
        Column("prompt", flexible=True),
    ]
    rows: list[list[str]] = []
    for group in found.groups:
        prompts = {each.cache_id: each.prompt for each in cache.peek([e.cache_id for e in group.members])}
        for first, other in _pairs(group, by_look):
            shown = other or first
            cells = [_name(first), _name(other)]
            if by_look:
                cells.append("" if other is None else f"{other.similarity:.3f}")
            if shown is not None:
                rows.append([*cells, size(shown.byte_size), prompts.get(shown.cache_id, "")])
    return columns, rows


def _pairs(group: DuplicateGroup, by_look: bool) -> Iterator[tuple[Duplicate | None, Duplicate | None]]:
    """What stands left and right in each row of a group."""
    left: Sequence[Duplicate] = group.members[:1] if by_look else group.kept
    return zip_longest(left, group.members[1:] if by_look else group.removable)


def _name(each: Duplicate | None) -> str:
    return "" if each is None else f"{each.cache_id} (pinned)" if each.pinned else each.cache_id


def _sentences(found: DuplicateReport, place: Place, offer: bool) -> Iterator[str]:
    entries = f"{count(found.entries, 'entry', 'entries')} in {near(place.path)}"
    alike = _ALIKE[found.level]
    if found.threshold is not None:
        alike += f" (a cosine of {found.threshold:.3f} or more)"
    if not found.groups:
        yield f"no two of {entries} have {alike}"
    elif found.level == "look":
        similar = sum(len(group.members) - 1 for group in found.groups)
        yield f"{count(len(found.groups), 'group')} of {alike}: {similar:,} like an older one of {entries}"
        yield "similar is not the same: nothing is removed for a likeness"
    else:
        freed = size(found.bytes_freed)
        yield f"{count(len(found.groups), 'group')} of {alike}: {found.removable:,} of {entries}, {freed}"
        parents = [each for group in found.groups for each in group.removable if each.children]
        if parents:
            yield (
                f"{count(len(parents), 'of them is a parent', 'of them are parents')} of other entries, "
                "which go on naming what was removed"
            )
        if offer and found.removable:
            yield f"remove them with: reverie cache duplicates --level {found.level} --remove{place.option()}"
    if found.without_vector:
        left_out = count(found.without_vector, "entry", "entries")
        yield f"not compared: {left_out} without a vector of this encoder"


def _removed(found: DuplicateReport, removal: Removal, place: Place) -> str:
    gone = [each for group in found.groups for each in group.removable if each.cache_id in removal.removed]
    freed = size(sum(each.byte_size for each in gone))
    return f"removed {count(len(gone), 'entry', 'entries')} ({freed}) from {near(place.path)}"
