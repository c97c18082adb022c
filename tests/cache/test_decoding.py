"""Files are decoded ahead of the encoder, some at a time, in order; broken ones are named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reverie.cache import decoding
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.decoding import AT_ONCE, Part, decode_ahead, decode_threads
from reverie.errors import ImageBatchError, ImageError, ImageNotFoundError, StorageError

Pixels = NDArray[np.uint8]
Files = Callable[[int], list[Path]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """``files(n)``: n PNG files of 2 x 2, each of its own colour."""

    def write(count: int) -> list[Path]:
        paths = [tmp_path / f"{number}.png" for number in range(count)]
        for number, path in enumerate(paths):
            Image.fromarray(shade(number)).save(path)
        return paths

    return write


def shade(number: int) -> Pixels:
    """2 x 2, of a colour of its own."""
    return np.full((2, 2, 3), (number, 255 - number, 7), dtype=np.uint8)


def numbers(frames: Sequence[Pixels]) -> list[int]:
    """Which shades these are."""
    return [int(frame[0, 0, 0]) for frame in frames]


def broken(folder: Path) -> Path:
    """A file that is no image."""
    path = folder / "text.png"
    path.write_text("dear diary")
    return path


class Colours:
    """Mean colour as the embedding; remembers its batches and the threads it was called on."""

    name = "colours"
    dimensions = 3

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.callers: set[int] = set()

    def encode_batch(self, frames: Sequence[Pixels]) -> NDArray[np.float32]:
        self.callers.add(threading.get_ident())
        self.batches.append(numbers(frames))
        return np.stack([frame.mean((0, 1)) for frame in frames]).astype(np.float32)


def decoders() -> list[str]:
    """Names of the threads that decode now."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reverie-decode")]


# --------------------------------------------------------------------------------- decode_ahead


def test_order_is_kept_whichever_thread_is_first(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first image is decoded last, and stands first."""
    second_is_done = threading.Event()
    decode = decoding.to_pixels
    paths = files(2)

    def slow_first(image: Any) -> Pixels:
        if image == paths[0]:
            assert second_is_done.wait(10)
        pixels = decode(image)
        if image == paths[1]:
            second_is_done.set()
        return pixels

    monkeypatch.setattr(decoding, "to_pixels", slow_first)
    (part,) = decode_ahead(paths, threads=2)
    assert part.indices == [0, 1]


def test_a_part_starts_with_the_threads_and_grows(files: Files) -> None:
    """The encoder has work soon: as many images as threads, then `AT_ONCE`, then the rest."""
    sizes = [len(part.indices) for part in decode_ahead(files(70), threads=3)]
    assert sizes == [3, AT_ONCE, AT_ONCE, 3]


def test_large_images_come_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more pixels in a part than the limit, judged by the largest image so far, and at least one."""
    monkeypatch.setattr(decoding, "_PART_BYTES", 1000)
    frames = [np.zeros((10, 10, 3), np.uint8)] * 2 + [np.zeros((1, 40, 3), np.uint8)] * 7
    assert [len(part.frames) for part in decode_ahead(frames, threads=2)] == [2, 3, 3, 1]
    huge = [np.zeros((50, 50, 3), np.uint8)] * 3
    assert [len(part.frames) for part in decode_ahead(huge, threads=1)] == [1, 1, 1]


def test_the_next_part_is_begun_while_one_is_out_and_no_more(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two parts at most are in memory: the one before is emptied, the one after the next not read."""
    asked: list[int] = []
    done = threading.Semaphore(0)
    decode = decoding.to_pixels

    def told(image: Any) -> Pixels:
        pixels = decode(image)
        done.release()
        return pixels

    def given() -> Iterator[Path]:
        for number, path in enumerate(paths):
            asked.append(number)
            yield path

    monkeypatch.setattr(decoding, "to_pixels", told)
    paths = files(2 + AT_ONCE * 3)
    with closing(decode_ahead(given(), threads=2)) as parts:
        first = next(parts)
        for _ in range(2 + AT_ONCE):  # the next part is decoded without being asked for
            assert done.acquire(timeout=10)
        assert len(asked) == 2 + AT_ONCE
        assert numbers(first.frames) == [0, 1]
        second = next(parts)
        assert first.frames == []
        assert numbers(second.frames) == list(range(2, 2 + AT_ONCE))
        assert len(asked) == 2 + AT_ONCE * 2
    assert decoders() == []


def test_frames_in_memory_need_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays and PIL images are taken on the caller's thread; an array is not copied."""
    images = [shade(5), Image.fromarray(shade(6)), shade(7)]
    callers: set[int] = set()
    decode = decoding.to_pixels

    def told(image: Any) -> Pixels:
        callers.add(threading.get_ident())
        return decode(image)

    monkeypatch.setattr(decoding, "to_pixels", told)
    with closing(decode_ahead(images, threads=8)) as parts:
        part = next(parts)
        assert decoders() == []
        assert numbers(part.frames) == [5, 6, 7]
        assert part.frames[0] is images[0]
    assert callers == {threading.get_ident()}


def test_failures_stand_beside_the_rest(files: Files, tmp_path: Path) -> None:
    """What cannot be used is named by its position: files, arrays and other types."""
    good = files(2)
    images = [good[0], broken(tmp_path), np.zeros((2, 2)), good[1], 7]
    (part,) = decode_ahead(images, threads=8)
    assert part.indices == [0, 3]
    assert {index: type(error) for index, error in part.failures.items()} == dict.fromkeys(
        (1, 2, 4), ImageError
    )
    assert "is not an image" in str(part.failures[1])


def test_nothing_gives_no_part() -> None:
    """An empty sequence, and an iterator without images."""
    assert list(decode_ahead([], threads=2)) == []
    assert list(decode_ahead(iter(()), threads=2)) == []
    assert Part() == Part([], [], {})


@pytest.mark.parametrize("error", [StorageError("the disk"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_other_errors_end_it_and_its_threads(
    files: Files, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """What is not an image's fault comes out at once; files that nobody began are not decoded."""
    begun: list[Path] = []

    def fail(image: Path) -> Pixels:
        begun.append(image)
        raise error

    monkeypatch.setattr(decoding, "to_pixels", fail)
    with pytest.raises(type(error)) as caught:
        list(decode_ahead(files(60), threads=2))
    assert caught.value is error
    assert len(begun) <= 2
    assert decoders() == []


def test_leaving_early_cancels_what_was_not_begun(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while the encoder works: at most the images under way are finished."""
    begun: list[Path] = []
    left = threading.Event()
    decode, shutdown = decoding.to_pixels, ThreadPoolExecutor.shutdown

    def counted(image: Path) -> Pixels:
        begun.append(image)
        assert len(begun) == 1 or left.wait(10)  # the second part waits until the caller has left
        return decode(image)

    def told(self: ThreadPoolExecutor, wait: bool = True, **options: Any) -> None:
        shutdown(self, wait=False, **options)
        left.set()
        shutdown(self, wait=wait)

    def leave() -> None:
        with closing(decode_ahead(files(60), threads=1)) as parts:
            next(parts)
            raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "to_pixels", counted)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", told)
    with pytest.raises(KeyboardInterrupt):
        leave()
    assert len(begun) <= 2
    assert decoders() == []


@pytest.mark.parametrize(("told", "expected"), [(3, 3), (12, 12)])
def test_an_encoder_may_tell_its_threads(told: int, expected: int) -> None:
    """As many threads decode as compute."""
    encoder = Colours()
    encoder.threads = told
    assert decode_threads(encoder) == expected


@pytest.mark.parametrize("told", [None, 0, -1, "4"])
@pytest.mark.parametrize(("processors", "expected"), [(1, 2), (2, 2), (5, 5), (64, 8)])
def test_else_the_processors_count(
    told: Any, processors: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each, from 2 to 8; what the system allows this process, where it tells."""
    encoder = Colours()
    encoder.threads = told
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    assert decode_threads(encoder) == expected
    monkeypatch.delattr(decoding.os, "sched_getaffinity")
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: processors)
    assert decode_threads(encoder) == expected


# -------------------------------------------------------------------------------- encode_images


def test_files_and_frames_mixed_are_encoded_in_order(files: Files) -> None:
    """Paths, text paths, PIL images and arrays over several parts; each row as `encode_image` gives it."""
    images: list[Any] = list(files(90))
    images[3], images[40], images[80] = str(images[3]), shade(40), Image.fromarray(shade(80))
    encoder = Colours()
    matcher = AestheticMatcher(encoder)
    vectors = matcher.encode_images(images)
    assert [number for batch in encoder.batches for number in batch] == list(range(90))
    assert max(map(len, encoder.batches)) <= AT_ONCE
    assert all(len(batch) for batch in encoder.batches)
    for row, image in zip(vectors, images, strict=True):
        assert row.tobytes() == matcher.encode_image(image).tobytes()


def test_the_encoder_runs_on_the_callers_thread(files: Files) -> None:
    """Engines and devices belong to a thread."""
    encoder = Colours()
    AestheticMatcher(encoder).encode_images(files(50))
    assert encoder.callers == {threading.get_ident()}
    assert decoders() == []


def test_a_generator_of_paths_is_encoded(files: Files) -> None:
    """Any iterable, without knowing its length."""
    paths = files(40)
    matcher = AestheticMatcher(Colours())
    assert np.array_equal(matcher.encode_images(path for path in paths), matcher.encode_images(paths))


def test_bad_files_among_many_are_named_and_the_rest_is_encoded(files: Files, tmp_path: Path) -> None:
    """In every part of a long batch, also in one that has nothing else."""
    paths: list[Path] = files(80)
    bad = [0, 1, 50, 79]
    for index in bad:
        paths[index] = tmp_path / "missing.png" if index % 2 else broken(tmp_path)
    encoder = Colours()
    encoder.threads = 2  # so the first part is bad as a whole
    with pytest.raises(
        ImageBatchError, match=r"^4 of 80 images cannot be encoded: image 0: .*; image 1: "
    ) as caught:
        AestheticMatcher(encoder).encode_images(paths)
    error = caught.value
    rest = [index for index in range(80) if index not in bad]
    assert list(error.failures) == bad
    assert [isinstance(error.failures[index], ImageNotFoundError) for index in bad] == [
        False,
        True,
        False,
        True,
    ]
    assert list(error.indices) == rest
    assert [number for batch in encoder.batches for number in batch] == rest
    assert error.embeddings.shape == (76, 3)


def test_an_encoder_that_fails_leaves_no_thread(files: Files) -> None:
    """Its error comes out as it is."""

    class Fails(Colours):
        def encode_batch(self, frames: Sequence[Pixels]) -> NDArray[np.float32]:
            raise RuntimeError("no memory on the device")

    with pytest.raises(RuntimeError, match=r"^no memory on the device$"):
        AestheticMatcher(Fails()).encode_images(files(60))
    assert decoders() == []
