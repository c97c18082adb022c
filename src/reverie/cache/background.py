"""A thread that does what it is told to a moment later."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable

__all__ = ["Background"]


class Background:
    """One thread, started when it is first needed; it ends with its owner, and with the program.

    It holds on to what it has to do and to nothing else, so an owner that is forgotten can be collected. What
    it has to do is done before it ends.

    Args:
        owner: Whose thread it is.
        name: Of the thread.
        delay: Seconds between being told and doing it.
    """

    def __init__(self, owner: object, name: str, delay: Callable[[], float] = lambda: 0.0) -> None:
        self._owner = weakref.ref(owner)
        self._name = name
        self._delay = delay
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._end = threading.Event()
        self._job: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def wake(self, job: Callable[[], None]) -> None:
        """Have a job done, once for all calls until then; it must not raise."""
        with self._lock:
            self._job = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the program ends: no thread starts any more
                    self._end.set()
                # Only now: when the program ends, what was made last ends first, and the job needs the rest.
                weakref.finalize(self._owner(), self.stop)
        self._work.set()
        if self._end.is_set():
            self._do()

    def _run(self) -> None:
        while not self._end.is_set():
            self._work.wait()
            self._work.clear()
            self._end.wait(self._delay())
            self._do()
        self._do()

    def _do(self) -> None:
        with self._lock:
            job, self._job = self._job, None
        if job is not None:
            job()

    def stop(self) -> None:
        """Have done what is to be done, and end the thread."""
        self._end.set()
        self._work.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # it never started, or is another process's, after a fork
                self._thread.join()
