"""What starting costs: ``import reverie`` and ``reverie --help`` beside a bare interpreter.

Run ``python benchmarks/bench_startup.py [--quick] [--folder DISK]``. Each sample is a whole process,
from its start to its end. All of them find compiled bytecode, as an installed package does, in a
folder of their own: the round that is not counted writes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from measure import Bar, Row, arguments, header, interleave, scratch, show


def process(bytecode: Path, *options: str) -> Callable[[], object]:
    """A call that runs this Python with those options and waits for it."""
    command = [sys.executable, *options]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def main() -> None:
    """Print the table."""
    options = arguments("Time the start of the package and of its command.")
    print(header(options.folder), end="\n\n")
    with scratch(options.folder) as bytecode:
        taken = interleave(
            {
                "bare": process(bytecode, "-c", "pass"),
                "import": process(bytecode, "-c", "import reverie"),
                "numpy": process(bytecode, "-c", "import numpy"),
                "cache": process(bytecode, "-c", "from reverie import CacheManager"),
                "help": process(bytecode, "-m", "reverie", "--help"),
            },
            rounds=5 if options.quick else 25,
        )
    bare = taken["bare"]
    show(
        [
            Row("import reverie, against a bare interpreter", taken["import"], bare, Bar(slower=3)),
            Row("reverie --help, whole process", taken["help"], bare, Bar(at_most=0.3)),
            Row("from reverie import CacheManager, against import numpy", taken["cache"], taken["numpy"]),
        ]
    )


if __name__ == "__main__":
    main()
