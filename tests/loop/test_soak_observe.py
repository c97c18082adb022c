"""A long life of a loop in short: `benchmarks/soak_observe.py` with fewer frames."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak_observe.py"


def test_a_loop_that_is_observed_for_long_leaves_nothing_open(tmp_path: Path) -> None:
    """In the background, with a display: files, threads and memory stay, and all agrees at the end."""
    command = [sys.executable, SOAK, "--frames", "1500", "--size", "32", "--background", "--folder", tmp_path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "index, files and vectors agree" in done.stdout
