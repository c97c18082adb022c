"""Telling whoever wants to know how a download goes.

A model is often fetched deep inside another call (an encoder that is made by name), so the listener is
set around that call and not handed through it::

    with reporting(print):
        AestheticMatcher("clip")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Arrived", "listener", "reporting"]


@dataclass(frozen=True, slots=True)
class Arrived:
    """How much of a file is on this machine.

    Attributes:
        repo: Repository that it comes from.
        file: Its name there.
        done: Bytes so far, those of an earlier try included; smaller than before when a wrong or
            refused part is fetched again.
        total: Bytes of the whole.
    """

    repo: str
    file: str
    done: int
    total: int


_LISTENER: ContextVar[Callable[[Arrived], None] | None] = ContextVar(
    "reverie_download_listener", default=None
)


@contextmanager
def reporting(tell: Callable[[Arrived], None]) -> Iterator[None]:
    """Call ``tell`` in this thread for every piece of a download inside the block, and once at its start."""
    token = _LISTENER.set(tell)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def listener() -> Callable[[Arrived], None] | None:
    """Who listens now; None when nobody does."""
    return _LISTENER.get()
