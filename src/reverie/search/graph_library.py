"""usearch, imported so that what is imported after it still works.

Since 2.26.2 its Linux wheels carry a C++ standard library of their own and show the whole of it to the
process. A library that is loaded later and uses the system's, onnxruntime to begin with, is then given half
of one and half of the other, and crashes in the middle of its own import. The system's library, shown to
everybody first, is the one that all of them find.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

if sys.platform == "linux":
    with contextlib.suppress(OSError):  # a system without it has nobody who could get the wrong half
        ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)

from usearch.index import Index

__all__ = ["Index"]
