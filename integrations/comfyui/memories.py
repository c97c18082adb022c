"""Memories that are open: one for each folder, for all nodes and all runs of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie.loop.injector import Injector
from reverie.loop.spectator import Spectator
from reverie.memory import ImageMemory

__all__ = ["Meters", "Settings", "Shared", "folder_of", "shared"]

_OPEN: dict[Path, Shared] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Settings:
    """How a memory is opened.

    Attributes:
        max_size: Most pictures in it; 0 for any number.
        encoder: Registered name of what compares them.
        eviction: Registered name of what goes when it is full.
    """

    max_size: int = 500
    encoder: str = "descriptor"
    eviction: str = "maxmin"


@dataclass
class Shared:
    """The memory of one folder, and the loops that use it. What nodes hand on to each other.

    Attributes:
        folder: Where it is.
        following: The next frame of each loop, by name.
    """

    folder: Path
    following: dict[str, Any] = field(default_factory=dict)
    _settings: Settings = field(default_factory=Settings)
    _memory: ImageMemory | None = None
    _injectors: dict[str, tuple[tuple[Any, ...], Injector]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def memory(self) -> ImageMemory:
        """It, opened where it is not yet."""
        with self._lock:
            if self._memory is None:
                settings = self._settings
                self._memory = ImageMemory(
                    self.folder,
                    settings.max_size or None,
                    encoder=settings.encoder,
                    eviction=settings.eviction,
                )
            return self._memory

    def set(self, settings: Settings) -> None:
        """From now on with these; where they are others, it is opened anew and its loops begin again."""
        with self._lock:
            if settings != self._settings:
                self.close()
                self._settings = settings

    def injector(self, loop: str, policy: str, seed: int) -> Injector:
        """What observes a loop; another policy or seed begins it again."""
        asked = (policy, seed)
        with self._lock:
            known = self._injectors.get(loop)
            if known is None or known[0] != asked:
                made = Injector(self.memory, policy, seed=seed)
                if known is not None:
                    known[1].close()
                known = self._injectors[loop] = (asked, made)
            return known[1]

    def close(self) -> None:
        """Let go of it; using it opens it again."""
        with self._lock:
            injectors, self._injectors = self._injectors, {}
            memory, self._memory = self._memory, None
            for _, injector in injectors.values():
                injector.close()
            if memory is not None:
                memory.close()


class Meters:
    """Watches loops by name."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Spectator]] = {}

    def of(self, loop: str, encoder: str, *, anew: bool = False) -> Spectator:
        """What watches a loop; another encoder begins it again."""
        known = self._known.get(loop)
        if known is None or known[0] != encoder or anew:
            known = self._known[loop] = (encoder, Spectator(encoder))
        return known[1]


def shared(folder: Path) -> Shared:
    """The memory of a folder, the same for whoever asks."""
    with _LOCK:
        return _OPEN.setdefault(folder, Shared(folder))


def folder_of(name: str, output: Callable[[], str]) -> Path:
    """Where a memory of that name is: an absolute path, or a folder among ComfyUI's outputs.

    Raises:
        ValueError: It is empty, or leads out of there.
    """
    path = Path(name.strip()).expanduser()
    if not name.strip():
        raise ValueError("the memory needs a folder: a name, or an absolute path")
    if path.is_absolute():
        return path.resolve()
    root = (Path(output()) / "reverie").resolve()
    found = (root / path).resolve()
    if root != found and root not in found.parents:
        raise ValueError(f"the folder {name!r} leads out of {root}: give a name, or an absolute path")
    return found
