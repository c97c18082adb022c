"""``import reverie`` loads nothing heavy: names are resolved on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "numpy",
    "PIL",
    "orjson",
    "click",
    "rich",
    "torch",
    "filelock",
    "platformdirs",
    "sqlite3",
    "hypothesis",
)


def loaded_by(statement: str) -> list[str]:
    """Which heavy modules a fresh interpreter holds after the statement."""
    code = f"import sys\n{statement}\nprint(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import reverie",
        "import reverie.errors",
        "from reverie import ReverieError, __version__",
        "import reverie; dir(reverie); reverie.__all__",
        "from reverie import registry; registry.kinds(); registry.names('encoders')",
    ],
)
def test_importing_the_package_loads_nothing_heavy(statement: str) -> None:
    """The package, its errors and the names of its parts cost no array or image library."""
    assert loaded_by(statement) == []


def test_the_check_sees_what_is_loaded() -> None:
    """The probe is not blind: a name that needs NumPy shows up in it."""
    assert "numpy" in loaded_by("from reverie import CacheEntry")
