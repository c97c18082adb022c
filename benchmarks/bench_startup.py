"""What starting costs: ``import reverie`` and ``reverie --help`` beside a bare interpreter.

Run ``python benchmarks/bench_startup.py [--quick]``. Each sample is a whole process, from its start
to its end, with the files already in the system's cache.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from measure import Bar, Row, arguments, header, interleave, show


def process(*options: str) -> Callable[[], object]:
    """A call that runs this Python with those options and waits for it."""
    command = [sys.executable, *options]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Print the table."""
    options = arguments("Time the start of the package and of its command.")
    print(header(options.folder), end="\n\n")
    taken = interleave(
        {
            "bare": process("-c", "pass"),
            "import": process("-c", "import reverie"),
            "cache": process("-c", "from reverie import CacheManager"),
            "help": process("-m", "reverie", "--help"),
        },
        rounds=5 if options.quick else 25,
    )
    bare = taken["bare"]
    show(
        [
            Row("import reverie, against a bare interpreter", taken["import"], bare, Bar(slower=3)),
            Row("reverie --help, whole process", taken["help"], bare, Bar(at_most=0.3)),
            Row("from reverie import CacheManager, whole process", taken["cache"], bare),
        ]
    )


if __name__ == "__main__":
    main()
