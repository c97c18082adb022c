"""What the embedded generator costs: milliseconds a frame, seconds to build, resident memory.

Run ``python benchmarks/bench_patches.py [FRAMES]``. One BLAS thread; the loop feeds each frame
back, as `reverie dream` does, at strengths .35, .5 and .6 in turn.
"""

import os
import platform
import resource
import sys
import time
from datetime import date
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402 - BLAS reads its number of threads when it is loaded
import PIL.Image  # noqa: E402
import threadpoolctl  # noqa: E402

from reverie.generators.patches import PatchGenerator  # noqa: E402

STRENGTHS = (0.35, 0.5, 0.6)


def resident_mb() -> float:
    """Resident memory now; where the kernel does not tell (not Linux), its peak so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def main(frames: int) -> None:
    """Build once, generate ``frames`` frames a strength, print the table."""
    libraries = f"numpy {np.__version__}, pillow {PIL.__version__}, threadpoolctl {threadpoolctl.__version__}"
    print(f"{date.today()}  {platform.machine()} {platform.platform()}")
    print(f"Python {platform.python_version()}, {libraries}")
    before = resident_mb()
    start = time.perf_counter()
    generator = PatchGenerator()
    built = time.perf_counter() - start
    after_build = resident_mb() - before
    times: dict[float, list[float]] = {strength: [] for strength in STRENGTHS}
    frame = generator.seeds[0]
    for number in range(frames):
        for strength in STRENGTHS:
            start = time.perf_counter()
            frame = generator.generate(frame, prompt="", strength=strength, seed=number)
            times[strength].append(1e3 * (time.perf_counter() - start))
    print(f"build                {built:8.2f} s")
    print(f"resident, built      {after_build:+8.1f} MB")
    print(f"resident, running    {resident_mb() - before:+8.1f} MB")
    for strength, spent in times.items():
        median, p90 = np.percentile(spent, (50, 90))
        print(f"frame at {strength:<4}        {median:8.1f} ms median {p90:8.1f} ms p90   ({frames} frames)")
    print("bars: 60 ms a frame (median), 80 MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
