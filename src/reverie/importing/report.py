"""How far an import is, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ImportReport"]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How far it is.

    Attributes:
        encoder: Name of the encoder of the vectors; None without vectors.
        total: Pictures that were found; grows while folders are watched.
        imported: Those of them that are in the cache now.
        known: Those that were passed over, because the cache, or another of them, has the same content.
        failures: Path to what is wrong with a picture, or with a folder that cannot be looked into.
        byte_size: Bytes of the imported pictures.
        described: Imported pictures whose prompt or parameters were read from their files.
        evicted: Entries that went for them; only where that was allowed.
        finished: Whether nothing was left; False while it runs, and when it was stopped.
        seconds: Time that the work took; waiting for new pictures is not counted.
    """

    encoder: str | None
    total: int = 0
    imported: int = 0
    known: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    byte_size: int = 0
    described: int = 0
    evicted: int = 0
    finished: bool = False
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """Pictures whose turn has not come."""
        return max(0, self.total - self.imported - self.known - len(self.failures))

    @property
    def rate(self) -> float | None:
        """Pictures imported a second; None before the first."""
        return self.imported / self.seconds if self.imported and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds to go at this rate; None while there is no rate."""
        return self.left / self.rate if self.rate else None
