"""Entries that are duplicates of others: the same bytes, the same picture, the same look."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reverie.cache.adding import NewEntry
from reverie.cache.duplicates import DEFAULT_LOOK, find_duplicates, remove_duplicates
from reverie.cache.manager import CacheManager
from reverie.errors import EncoderMismatchError, InputError, UnknownNameError
from reverie.testing.samples import picture
from reverie.vectors import normalise

Open = Callable[..., CacheManager]


def saved(folder: Path, name: str, pixels: Any, **options: Any) -> Path:
    """A picture as a file of some form."""
    path = folder / name
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """One picture as PNG, as a copy, packed otherwise, as WebP without loss, as JPEG; and another one."""
    one, other = picture(1, 40, 40), picture(2, 40, 40)
    first = saved(tmp_path, "one.png", one, compress_level=1)
    copy = tmp_path / "copy.png"
    copy.write_bytes(first.read_bytes())
    return [
        first,
        saved(tmp_path, "other.png", other),
        copy,
        saved(tmp_path, "packed.png", one, compress_level=9),
        saved(tmp_path, "one.webp", one, lossless=True),
        saved(tmp_path, "one.jpg", one, quality=95),
    ]


def numbers(report: Any) -> list[list[int]]:
    """The groups of a report, as numbers of their entries."""
    return [[int(each.cache_id[-5:]) for each in group.members] for group in report.groups]


def test_the_same_bytes_and_the_same_picture(open_cache: Open, kind: str, pictures: list[Path]) -> None:
    """A copy has the same bytes; what is packed otherwise the same pixels; a JPEG is another picture."""
    cache = open_cache(index=kind)
    cache.add_many([NewEntry(path) for path in pictures])
    report = find_duplicates(cache, "bytes")
    assert (numbers(report), report.entries, report.removable) == ([[1, 3]], 6, 1)
    report = find_duplicates(cache)
    assert (report.level, numbers(report)) == ("picture", [[1, 3, 4, 5]])
    assert report.bytes_freed == sum(pictures[at].stat().st_size for at in (2, 3, 4))
    assert all(each.similarity == 1 for each in report.groups[0].members)


def test_the_oldest_stays_and_every_pinned_one(open_cache: Open, kind: str, pictures: list[Path]) -> None:
    """Where one is pinned, the oldest need not be kept; nothing pinned goes; nothing is used by looking."""
    cache = open_cache(index=kind)
    ids = cache.add_many([NewEntry(path) for path in pictures])
    cache.pin(ids[3])
    before = [entry.used_ns for entry in cache]
    report = find_duplicates(cache)
    assert [entry.used_ns for entry in cache] == before
    (group,) = report.groups
    assert [each.cache_id for each in group.kept] == [ids[3]]
    done = remove_duplicates(cache, report)
    assert done.removed == dict.fromkeys([ids[0], ids[2], ids[4]], ids[3])
    assert cache.ids() == [ids[1], ids[3], ids[5]]
    assert cache.check().ok
    assert find_duplicates(cache).groups == ()


def test_what_changed_since_is_passed_over(open_cache: Open, pictures: list[Path]) -> None:
    """Pinned, removed or another file by now: each with its reason."""
    cache = open_cache(max_size=None)
    ids = cache.add_many([NewEntry(pictures[0]) for _ in range(5)])
    report = find_duplicates(cache, "bytes")
    cache.pin(ids[1])
    cache.remove(ids[2])
    cache.peek([ids[3]])[0].image_path.write_bytes(pictures[1].read_bytes())
    done = remove_duplicates(cache, report)
    assert done.removed == {ids[4]: ids[0]}
    assert list(done.passed_over) == ids[1:4]
    assert [why.split()[-1] for why in done.passed_over.values()] == ["meanwhile", "meanwhile", "stays"]


def test_nothing_goes_where_what_stays_cannot_be_read(open_cache: Open, pictures: list[Path]) -> None:
    """The last whole copy is never removed."""
    cache = open_cache(max_size=None)
    ids = cache.add_many([NewEntry(pictures[0]) for _ in range(2)])
    report = find_duplicates(cache, "bytes")
    cache.peek(ids[:1])[0].image_path.unlink()
    done = remove_duplicates(cache, report)
    assert (done.removed, list(done.passed_over)) == ({}, ids[1:])
    assert cache.ids() == ids


def test_children_are_counted_and_keep_naming_their_parents(open_cache: Open, pictures: list[Path]) -> None:
    """What was removed is still a parent, as after an eviction; the removal says who holds that picture."""
    cache = open_cache(max_size=None)
    first, second = cache.add_many([NewEntry(pictures[0]), NewEntry(pictures[0])])
    child = cache.add(pictures[1], parents=[second])
    (group,) = find_duplicates(cache, "bytes").groups
    assert [each.children for each in group.members] == [0, 1]
    done = remove_duplicates(cache, find_duplicates(cache, "bytes"))
    assert done.removed[second] == first
    assert cache.peek([child])[0].parents == (second,)


def test_an_image_that_cannot_be_read_is_named(open_cache: Open, pictures: list[Path]) -> None:
    """The others are compared; it is in no group."""
    cache = open_cache(max_size=None)
    ids = cache.add_many([NewEntry(pictures[at]) for at in (0, 3, 4)])
    cache.peek([ids[1]])[0].image_path.write_bytes(b"no picture any more")
    report = find_duplicates(cache)
    assert (numbers(report), list(report.failures)) == ([[1, 3]], [ids[1]])
    assert report.entries == 2


def near(base: Any, cosine: float, seed: int) -> Any:
    """A vector at that cosine from another."""
    rng = np.random.default_rng(seed)
    side = rng.standard_normal(base.size)
    side -= side @ base * base
    side /= np.linalg.norm(side)
    return normalise((cosine * base + np.sqrt(1 - cosine**2) * side)[None])[0]


def test_the_same_look_is_not_chained(open_cache: Open, kind: str) -> None:
    """Everybody in a group is near its oldest: b is near a, c near b but not near a, so c begins its own."""
    cache = open_cache(index=kind, max_size=None)
    a = normalise(np.random.default_rng(0).standard_normal((1, 64)))[0]
    b = near(a, 0.985, 1)
    c = normalise((2 * b - a * float(a @ b))[None])[0]
    assert c @ b > 0.985
    assert c @ a < DEFAULT_LOOK
    for vector in (a, b, c, near(c, 0.99, 2)):
        cache.add(picture(int(vector[0] * 1e6) % 1000), embedding=vector, encoder="e")
    cache.add(picture(5))
    report = find_duplicates(cache, "look")
    assert (numbers(report), report.threshold, report.without_vector) == ([[1, 2], [3, 4]], DEFAULT_LOOK, 1)
    assert report.groups[0].members[1].similarity == pytest.approx(0.985, abs=1e-5)
    assert numbers(find_duplicates(cache, "look", 0.5)) == [[1, 2, 3, 4]]
    assert numbers(find_duplicates(cache, "look", 0.999)) == []


def test_a_percentile_is_a_threshold_too(open_cache: Open) -> None:
    """Of the cosines that the cache's own pictures have."""
    cache = open_cache(max_size=None)
    vectors = normalise(np.random.default_rng(3).standard_normal((30, 16)))
    vectors[29] = near(vectors[0], 0.9999, 1)
    cache.add_many([NewEntry(picture(at), embedding=each, encoder="e") for at, each in enumerate(vectors)])
    report = find_duplicates(cache, "look", "p99.9")
    assert [1, 30] in numbers(report)
    assert 0.5 < report.threshold < 1


def test_nothing_is_removed_for_a_likeness(open_cache: Open) -> None:
    """Similar is not the same."""
    cache = open_cache()
    for _ in range(2):
        cache.add(picture(1), embedding=[1.0, 0.0], encoder="e")
    report = find_duplicates(cache, "look")
    assert numbers(report) == [[1, 2]]
    with pytest.raises(InputError, match="similar, not the same"):
        remove_duplicates(cache, report)
    assert cache.size() == 2


def test_what_cannot_be_asked_is_refused(open_cache: Open) -> None:
    """An unknown level, a threshold where there is none, several encoders."""
    cache = open_cache()
    cache.add(picture(1), embedding=[1.0, 0.0], encoder="one")
    cache.add(picture(2), embedding=[1.0, 0.0], encoder="two")
    with pytest.raises(UnknownNameError, match="there are: bytes, picture, look"):
        find_duplicates(cache, "pixels")
    with pytest.raises(InputError, match="a threshold is for the level 'look'"):
        find_duplicates(cache, "bytes", 0.9)
    with pytest.raises(EncoderMismatchError):
        find_duplicates(cache, "look")
    assert find_duplicates(cache, "look", encoder="one").groups == ()
    with pytest.raises(InputError):
        find_duplicates(cache, "look", float("nan"), encoder="one")


def test_an_empty_cache_has_none(open_cache: Open, kind: str) -> None:
    """At every level; and progress is told where there is something to do."""
    cache = open_cache(index=kind)
    for level in ("bytes", "picture", "look"):
        assert find_duplicates(cache, level).groups == ()
    buffer = io.BytesIO()
    Image.fromarray(picture(1)).save(buffer, format="PNG")
    cache.add_many([NewEntry(picture(1)), NewEntry(Image.open(buffer))])
    told: list[tuple[int, int]] = []
    find_duplicates(cache, progress=lambda done, total: told.append((done, total)))
    assert told
    assert told[-1][0] == told[-1][1]
