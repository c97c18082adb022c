"""A process that imports and says how far it is: ``import_worker.py <cache> <folder> <index>``."""

from __future__ import annotations

import json
import sys

from reverie import CacheManager
from reverie.importing import ImportReport, import_folder


def tell(report: ImportReport) -> None:
    """One line of JSON for the test that waits for it."""
    sys.stdout.write(json.dumps({"imported": report.imported, "total": report.total}) + "\n")
    sys.stdout.flush()


def work(cache: str, folder: str, index: str) -> None:
    """Import the folder."""
    with CacheManager(cache, None, index=index) as opened:
        import_folder(opened, folder, progress=tell)


if __name__ == "__main__":
    work(*sys.argv[1:])
