"""What `reverie cache check` does, and how it tells."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reverie.cache.check import CheckReport, Problem, check_cache
from reverie.cli.output import count, facts, near
from reverie.cli.place import Place
from reverie.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["inspect", "report", "result"]


def inspect(place: Place, fix: bool) -> tuple[CheckReport, list[Problem]]:
    """Check a folder; what was found, and what is still wrong (after a repair: looked at again).

    Raises:
        ConfigError: No cache was ever there.
        StorageError: The folder cannot be read, or a repair could not be written.
    """
    if not place.looks_like_cache():
        raise ConfigError(f"there is no cache in {str(place.path)!r} ({place.why}): name one with --cache")
    found = check_cache(place.path, fix=fix)
    return found, check_cache(place.path).problems if found.fixed else found.problems


def result(found: CheckReport, remaining: list[Problem]) -> dict[str, Any]:
    """The outcome as JSON takes it."""
    return {
        "folder": str(found.folder),
        "entries": found.entries,
        "ok": not remaining,
        "fixed": found.fixed,
        "problems": [asdict(problem) for problem in found.problems],
        "remaining": [asdict(problem) for problem in remaining],
    }


def report(found: CheckReport, remaining: list[Problem], place: Place, fix: bool) -> list[RenderableType]:
    """The outcome for people: each problem with what a repair would do, or did."""
    entries = count(found.entries, "entry", "entries")
    if found.ok:
        return [f"{near(place.path)} is sound: {entries}, index and files agree"]
    lines: list[tuple[str, str]] = []
    for problem in found.problems:
        lines += [(problem.kind, problem.subject), ("", problem.message)]
        if problem.action:
            lines.append(("  done" if fix and problem not in remaining else "  --fix would", problem.action))
        lines.append(("", ""))
    return [facts(lines), _outcome(found, remaining, place, fix)]


def _outcome(found: CheckReport, remaining: list[Problem], place: Place, fix: bool) -> str:
    told = f"{count(len(found.problems), 'problem')} in {near(place.path)}"
    told = f"{told} ({count(found.entries, 'entry', 'entries')})"
    if fix:
        return f"{told}, {f'{len(remaining):,} left, to be looked at by you' if remaining else 'none left'}"
    can_repair = any(problem.action for problem in remaining)
    return f"{told}; repair with: reverie cache check --fix{place.option()}" if can_repair else told
