"""One frame is worked on behind the loop that makes the next one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

from reverie.errors import CacheFullError, StorageError
from reverie.loop.observed import Injection, Observed
from reverie.loop.observing import Given

__all__ = ["Behind"]

_Answer: TypeAlias = tuple[Observed, Injection | None]


_MOMENT_S = 0.001


def _after_a_moment(given: Given) -> Given:
    """The loop's thread goes first: it would have to wait for the interpreter, with a frame to show."""
    time.sleep(_MOMENT_S)
    return given


class Behind:
    """A thread that works on one frame at a time, in their order; what was `put` is done, whatever comes.

    Args:
        work: What is done with a frame.

    Attributes:
        waited_s: Seconds that `settled` waited, all together.
    """

    def __init__(self, work: Callable[[Given], _Answer]) -> None:
        self.waited_s = 0.0
        self._work = lambda given: work(_after_a_moment(given))
        self._frame: Given | None = None
        self._answer: Future[_Answer] | None = None  # None with a frame: it failed, and is tried again
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    @property
    def busy(self) -> bool:
        """Whether it is at work on a frame."""
        return self._answer is not None and not self._answer.done()

    def put(self, given: Given) -> None:
        """Begin with a frame; the one before is settled."""
        self._frame, self._answer = given, self._thread().submit(self._work, given)

    def settled(self) -> _Answer | None:
        """The answer to the frame that was put last, which is waited for; None when there is no such frame.

        Raises:
            ReverieError: What the frame failed with. Where another try can help, the frame is tried again at
                the next call.
        """
        frame = self._frame
        if frame is None:
            return None
        answer = self._answer = self._answer or self._thread().submit(self._work, frame)
        started = time.perf_counter()
        try:
            observed, injection = answer.result()
        except (StorageError, CacheFullError) as exc:
            self._answer = None
            exc.add_note("of the frame before this one: it is kept, and tried again at the next call")
            raise
        except Exception as exc:
            self._frame = self._answer = None
            exc.add_note("of the frame before this one, which was not counted; hand this one in again")
            raise
        waited = time.perf_counter() - started
        self.waited_s += waited
        self._frame = self._answer = None
        times = {**observed.times_ms, "wait": round(waited * 1e3, 3)}
        return replace(observed, times_ms=times), injection

    def close(self) -> None:
        """End the thread; a later `put` begins a new one."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.shutdown()
        self._pool = None

    def _thread(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pid != os.getpid():  # a fork has none of its parent's threads
            self._pool, self._pid = ThreadPoolExecutor(1, "reverie-observe"), os.getpid()
        return self._pool
