"""The exception tree: every error that reverie raises on purpose.

Each message says what was wrong, what was expected and what to do. Errors of other
libraries are mapped into this tree ``from exc``, so the cause stays visible::

    ReverieError
    ├── InputError (ValueError)                what was handed in is not usable
    │   ├── ImageError                         not an image, broken, empty, too large
    │   │   ├── ImageNotFoundError (FileNotFoundError)
    │   │   └── ImageBatchError                some images of a batch; the others are in it
    │   ├── EmbeddingError                     NaN, infinity, zero, wrong length or type
    │   │   └── EncoderMismatchError           vectors of two encoders in one comparison
    │   ├── ParamsError                        generation_params that JSON cannot hold
    │   ├── ConfigError                        a configuration without the keys it needs
    │   └── UnknownNameError (LookupError)     a backend, policy or encoder nobody registered
    ├── CacheError                             the cache on disk
    │   ├── IndexCorruptError                  unreadable or foreign: never overwritten
    │   ├── CacheFullError                     everything in it is pinned, nothing can make room
    │   ├── EntryNotFoundError (KeyError)      no entry of that id
    │   ├── UnsafePathError                    a path or link that leaves the cache folder
    │   ├── StorageError (OSError)             disk full, read-only, permission
    │   │   └── LockTimeoutError (TimeoutError) another process holds the writer's lock
    │   └── CacheClosedError                   used after close()
    ├── ModelError                             the weights of a model, or what runs them
    │   ├── ModelNotFoundError (LookupError)   not on this machine, and it cannot be fetched now
    │   ├── ModelCorruptError                  a file of it is cut, changed or not what it should be
    │   └── DownloadError (OSError)            the connection, the server or the disk failed on the way
    ├── GenerationError                        a generator failed or returned no frame
    └── MissingDependencyError (ImportError)   an optional part is not installed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "CacheClosedError",
    "CacheError",
    "CacheFullError",
    "ConfigError",
    "DownloadError",
    "EmbeddingError",
    "EncoderMismatchError",
    "EntryNotFoundError",
    "GenerationError",
    "ImageBatchError",
    "ImageError",
    "ImageNotFoundError",
    "IndexCorruptError",
    "InputError",
    "LockTimeoutError",
    "MissingDependencyError",
    "ModelCorruptError",
    "ModelError",
    "ModelNotFoundError",
    "ParamsError",
    "ReverieError",
    "StorageError",
    "UnknownNameError",
    "UnsafePathError",
]


class ReverieError(Exception):
    """Base of every error raised on purpose by reverie."""

    def __str__(self) -> str:
        # KeyError would quote the message and OSError would look for an errno.
        return str(self.args[0]) if self.args else type(self).__name__


class InputError(ReverieError, ValueError):
    """An argument is not usable; nothing was changed."""


class ImageError(InputError):
    """An image cannot be used: not an image, broken, empty, or too large."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """An image file does not exist."""


class ImageBatchError(ImageError):
    """Some images of a batch could not be encoded; the work on the others is not lost.

    Attributes:
        failures: Position in the batch to what was wrong with that image.
        indices: Positions of the images that were encoded, ascending.
        embeddings: Their vectors, ``(len(indices), d)`` float32, in that order.
    """

    def __init__(
        self, message: str, failures: Mapping[int, ImageError], indices: Sequence[int], embeddings: Any
    ) -> None:
        super().__init__(message, failures, indices, embeddings)
        self.failures = failures
        self.indices = indices
        self.embeddings = embeddings


class EmbeddingError(InputError):
    """An embedding is not a finite, non-zero vector of the expected length."""


class EncoderMismatchError(EmbeddingError):
    """Vectors made by different encoders were about to be compared."""


class ParamsError(InputError):
    """``generation_params`` holds something that JSON cannot."""


class ConfigError(InputError):
    """A configuration lacks a key or holds a value of the wrong type."""


class UnknownNameError(InputError, LookupError):
    """No backend, policy or encoder is registered under that name."""


class CacheError(ReverieError):
    """The cache on disk could not be used as asked."""


class IndexCorruptError(CacheError):
    """The index is damaged or not ours; it was left exactly as it is."""


class CacheFullError(CacheError):
    """The cache is at its limit and every entry is pinned: nothing may be evicted."""


class EntryNotFoundError(CacheError, KeyError):
    """The cache holds no entry of that id."""


class UnsafePathError(CacheError):
    """A recorded path or a link leads out of the cache folder; it was not followed."""


class StorageError(CacheError, OSError):
    """The file system refused: disk full, read-only, no permission."""


class LockTimeoutError(StorageError, TimeoutError):
    """Another process kept the writer's lock for too long."""


class CacheClosedError(CacheError):
    """The cache was used after ``close()``."""


class ModelError(ReverieError):
    """A model cannot be used: its weights, or the engine that runs them."""


class ModelNotFoundError(ModelError, LookupError):
    """The weights are not on this machine, and there is no way to fetch them now."""


class ModelCorruptError(ModelError):
    """A file of a model is cut, changed, or not what it should be; it was kept, aside where we could."""


class DownloadError(ModelError, OSError):
    """A download failed on the way; what arrived is kept, and the next try goes on from there."""


class GenerationError(ReverieError):
    """A generator failed, or returned something that is not a frame."""


class MissingDependencyError(ReverieError, ImportError):
    """An optional part is not installed; the message holds the line that installs it."""
