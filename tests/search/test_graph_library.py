"""usearch beside the other libraries of a process, each order in a process of its own."""

import subprocess
import sys

import pytest

SEARCH = """
import numpy as np
rows = np.random.default_rng(0).standard_normal((300, 64), dtype=np.float32)
graph = Index(ndim=64, metric="cos", dtype="i8")
graph.add(np.arange(300), rows)
assert [int(graph.search(row, 1).keys[0]) for row in rows[:20]] == list(range(20))
try:
    graph.load("/no/such.usearch")
except (OSError, RuntimeError):
    print("searched")
"""


def said(*lines: str) -> str:
    """What the lines print in a new process, which must live to its end."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr or f"ended by signal {-done.returncode}"
    return done.stdout


@pytest.mark.parametrize("module", ["onnxruntime", "torch", "openvino", "pyarrow.parquet"])
def test_a_library_may_be_imported_after_the_graph(module: str) -> None:
    """Usearch 2.26.2 and later, bare, crashes onnxruntime's import."""
    assert said("from reverie.search.graph_library import Index", f"import {module}", SEARCH) == "searched\n"


def test_a_library_may_be_imported_before_the_graph() -> None:
    """The order in which it always worked."""
    assert (
        said("import onnxruntime", "from reverie.search.graph_library import Index", SEARCH) == "searched\n"
    )


REFUSING = """
import ctypes
real = ctypes.CDLL
def refuse(name, *args, **kwargs):
    if "stdc++" in str(name):
        raise OSError(name)
    return real(name, *args, **kwargs)
ctypes.CDLL = refuse
"""


def test_a_system_without_the_cpp_library_has_the_graph() -> None:
    """Its own is enough for usearch."""
    assert said(REFUSING, "from reverie.search.graph_library import Index", SEARCH) == "searched\n"
