"""Picture files decoded on other threads while the encoder works on the ones before.

The encoder stays on the caller's thread. Pillow and the engines of the encoders release Python's
lock while they compute, so decoding costs no time of its own as long as it is the faster of the two
and a processor is free.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from reverie.errors import ImageError
from reverie.pixels import ImageLike, Pixels, to_pixels

__all__ = ["AT_ONCE", "Part", "decode_ahead", "decode_threads"]

AT_ONCE = 32
"""Images of one part at most: a long batch must not fill the memory with pixels."""

_PART_BYTES = 1 << 28  # of pixels, judged by the largest image so far

_Work: TypeAlias = list[tuple[int, ImageLike | Future[Pixels]]]


@dataclass(slots=True)
class Part:
    """Some images in a row.

    Attributes:
        indices: Positions of those that can be used, ascending.
        frames: Their pixels, in that order; emptied when the next part is asked for.
        failures: Position of each other image to what is wrong with it.
    """

    indices: list[int] = field(default_factory=list)
    frames: list[Pixels] = field(default_factory=list)
    failures: dict[int, ImageError] = field(default_factory=dict)


def decode_threads(encoder: object) -> int:
    """How many threads decode for an encoder: as many as it computes on, if it tells (``threads``).

    Else one for each processor that this process may use, but from 2 to 8.
    """
    told = getattr(encoder, "threads", None)
    if isinstance(told, int) and told > 0:
        return told
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(2, allowed))


def decode_ahead(images: Iterable[ImageLike], threads: int) -> Generator[Part]:
    """Images as pixels, in their order, in parts; while one part is out, the next is being decoded.

    Paths are read and decoded by ``threads`` threads. Arrays and PIL images are in memory already:
    no thread and no disk is needed for them. ``images`` itself is read on the caller's thread. At
    most two parts are in memory, of `AT_ONCE` images each; fewer when images are large, and as many
    as there are threads at the start, so that the encoder has work soon.

    Close the iterator if it is not read to its end; that, and any exception, ends the threads.

    Raises:
        StorageError: A file cannot be read.
    """
    numbered = enumerate(images)
    with _Pool(threads, thread_name_prefix="reverie-decode") as pool:
        waiting = _begin(pool, islice(numbered, min(threads, AT_ONCE)))
        largest = 1
        while waiting:
            part = _finish(waiting)
            largest = max(largest, *(frame.nbytes for frame in part.frames), 1)
            waiting = _begin(pool, islice(numbered, min(AT_ONCE, max(1, _PART_BYTES // largest))))
            yield part
            part.frames.clear()


class _Pool(ThreadPoolExecutor):
    """Whose end does not wait for work that nobody began."""

    def __exit__(self, *_: object) -> None:
        self.shutdown(cancel_futures=True)


def _begin(pool: ThreadPoolExecutor, images: Iterable[tuple[int, ImageLike]]) -> _Work:
    return [
        (index, pool.submit(to_pixels, image) if isinstance(image, (str, os.PathLike)) else image)
        for index, image in images
    ]


def _finish(work: _Work) -> Part:
    part = Part()
    for index, item in work:
        try:
            frame = item.result() if isinstance(item, Future) else to_pixels(item)
        except ImageError as exc:
            part.failures[index] = exc
        else:
            part.indices.append(index)
            part.frames.append(frame)
    return part
