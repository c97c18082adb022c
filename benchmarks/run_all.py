"""Run every ``bench_*.py`` beside this file, one after the other, and write one Markdown table.

Run ``python benchmarks/run_all.py [--quick] [--folder DISK] > table.md``. Lines of a benchmark that
are rows of a table are joined into one; what else it prints follows below the table as it is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from measure import TABLE_HEAD, arguments, header

QUICK = {"bench_descriptor.py": ["--rounds", "3", "--sizes", "512"], "bench_patches.py": ["15"]}
"""Short forms of the benchmarks that do not know ``--quick``."""


def command(script: Path, quick: bool, folder: Path) -> list[str]:
    """How a benchmark is started."""
    if script.name in QUICK:
        return [sys.executable, str(script), *(QUICK[script.name] if quick else [])]
    return [sys.executable, str(script), "--folder", str(folder), *(["--quick"] if quick else [])]


def main() -> int:
    """Run them; 1 when one failed or a bar of the table was missed."""
    options = arguments("Run every benchmark and write one Markdown table.")
    rows: list[str] = []
    others: list[str] = []
    failed = False
    for script in sorted(Path(__file__).parent.glob("bench_*.py")):
        start = time.perf_counter()
        done = subprocess.run(
            command(script, options.quick, options.folder), stdout=subprocess.PIPE, text=True, check=False
        )
        print(f"{script.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        found = [line for line in done.stdout.splitlines() if line.startswith("| ")]
        rows += [line for line in found if line not in TABLE_HEAD]
        rest = [line for line in done.stdout.splitlines() if not line.startswith(("| ", "- "))]
        if any(rest) or done.returncode:
            text = "\n".join(rest).strip()
            others.append(f"`{script.name}`, exit status {done.returncode}\n\n```text\n{text}\n```")
        failed = failed or done.returncode != 0
    print("\n".join([header(options.folder), "", *TABLE_HEAD, *rows, *(f"\n{text}" for text in others)]))
    return int(failed or any("MISSED" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
