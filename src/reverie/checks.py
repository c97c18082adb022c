"""Numbers that were handed in, checked before anything is done with them; NumPy's count as Python's own."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from reverie.errors import InputError

__all__ = ["MOST_SEED", "check_number", "check_seed", "check_strength", "check_whole", "refuse_nan"]

MOST_SEED = 2**63 - 1
"""The largest seed: what the journal of a run can hold."""


def _is_a(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number from ``least`` to ``most``, both included; raises InputError for anything else."""
    if not _is_a(Integral, value):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise InputError(f"{name} must be {f'at least {least}' if least else '0 or more'}, got {value}")
    if most is not None and value > most:
        raise InputError(f"{name} must be at most {most}, got {value}")
    return int(value)


def check_number(name: str, value: Any) -> float:
    """A finite number; raises InputError with the name for anything else."""
    if not _is_a(Real, value):
        raise InputError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {value}")
    return number


def refuse_nan(name: str, value: Any, expected: str) -> None:
    """Raise InputError for NaN and for what is no number; infinity and a NumPy scalar are fine."""
    try:
        nan = math.isnan(value)
    except (TypeError, OverflowError) as exc:
        raise InputError(f"{name} must be {expected}, got {value!r}") from exc
    if nan:
        raise InputError(f"{name} is NaN, expected {expected}")


def check_seed(value: Any, name: str = "seed") -> int:
    """A seed, a whole number from 0 to `MOST_SEED`; raises InputError for anything else."""
    return check_whole(name, value, 0, MOST_SEED)


def check_strength(value: Any) -> float:
    """A strength from 0 to 1; raises InputError for anything else, NaN included."""
    if not _is_a(Real, value) or not 0.0 <= value <= 1.0:
        raise InputError(
            f"strength must be in [0, 1], from 0 (keep the frame) to 1 (forget it), got {value!r}"
        )
    return float(value)
