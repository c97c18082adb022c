"""A cache that is open while its process forks: the child gets its own lock and files."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

from reverie.protocols import IndexBackend

__all__ = ["HasLock", "keep_inherited", "renew_lock_in_children"]

_INHERITED: list[IndexBackend] = []


class HasLock(Protocol):
    """Whatever holds a lock that a fork may catch in the hands of another thread."""

    _lock: threading.RLock


_OWNERS: weakref.WeakSet[HasLock] = weakref.WeakSet()


def renew_lock_in_children(owner: HasLock) -> None:
    """Give ``owner`` a new lock in every forked child: a thread that held it is not there to release it."""
    _OWNERS.add(owner)


def keep_inherited(index: IndexBackend) -> None:
    """Never close an index that was opened before the fork: its files are its parent's."""
    _INHERITED.append(index)


def _renew() -> None:
    for owner in list(_OWNERS):
        owner._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
