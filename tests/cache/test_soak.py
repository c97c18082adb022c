"""A long life in short: the soak test of `benchmarks/soak.py` with fewer adds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_fifty_thousand_adds_leave_no_trace_but_the_last(tmp_path: Path) -> None:
    """Memory stays as it is once the cache is full, and index, files and vectors agree at the end."""
    command = [sys.executable, SOAK, "--adds", "50000", "--max-size", "1000", "--folder", tmp_path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "index, files and vectors agree" in done.stdout
