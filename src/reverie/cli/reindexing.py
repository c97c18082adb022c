"""What `reverie cache reindex` does and shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cli.counting import figures_bar
from reverie.cli.downloading import downloads
from reverie.cli.main import INTERRUPTED, OURS
from reverie.cli.output import complain, console, count, json_line, near, note, say
from reverie.cli.params import given
from reverie.cli.place import Place, open_cache
from reverie.cli.progress import clock_time
from reverie.reindex import Reindexing, ReindexReport

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["result", "run", "summary"]

Tell: TypeAlias = Callable[[ReindexReport], None]


def run(place: Place, encoder: str, *, only_missing: bool, as_json: bool, options: Mapping[str, Any]) -> int:
    """Encode what is left, show how it goes and what came out; the exit code.

    Args:
        place: Where the cache is.
        encoder: Name of a registered encoder.
        only_missing: Leave every entry that has a vector.
        as_json: Whether to speak JSON.
        options: Of the encoder; None for one that was not given.

    Raises:
        ReverieError: The encoder or the cache cannot be used, or the disk refused.
    """
    matcher = AestheticMatcher(encoder, **given(options))
    interrupted = False
    with open_cache(place) as cache:
        with downloads():
            matcher.load()
        with _progress() as tell:
            job = Reindexing(cache, matcher, only_missing=only_missing, progress=tell)
            try:
                job.run()
            except KeyboardInterrupt:
                interrupted = True
        report = job.report
    for cache_id, error in report.failures.items():
        complain(f"{cache_id}: {error}")
    if as_json:
        json_line(result(report, place))
    else:
        say(summary(report, place))
    if interrupted:
        note("interrupted; what is done is kept, and the same command goes on from there")
        return INTERRUPTED
    return OURS if report.failures else 0


def summary(report: ReindexReport, place: Place) -> str:
    """What came out, as a sentence."""
    parts = [f"{report.encoded:,} encoded"]
    if report.already:
        parts.append(f"{report.already:,} already done")
    if report.failures:
        parts.append(f"{len(report.failures):,} not")
    if report.gone:
        parts.append(f"{report.gone:,} removed meanwhile")
    if report.left:
        parts.append(f"{report.left:,} left")
    entries = count(report.total, "entry", "entries")
    return f"{report.encoder}: {', '.join(parts)} of {entries} in {near(place.path)}"


def result(report: ReindexReport, place: Place) -> dict[str, Any]:
    """What came out, as JSON takes it."""
    failed = [{"cache_id": cache_id, "error": error} for cache_id, error in report.failures.items()]
    return {
        "folder": str(place.path),
        "encoder": report.encoder,
        "total": report.total,
        "already": report.already,
        "encoded": report.encoded,
        "gone": report.gone,
        "failed": failed,
        "left": report.left,
        "finished": report.finished,
        "seconds": round(report.seconds, 3),
    }


@contextmanager
def _progress() -> Iterator[Tell]:
    """Show on standard error how it goes: a line that moves in a terminal, a line every tenth elsewhere."""
    screen = console(stderr=True)
    if screen.is_terminal and not screen.is_dumb_terminal:
        with _bar(screen) as tell:
            yield tell
    else:
        yield _Lines()


def _figures(report: ReindexReport) -> tuple[str, str, str]:
    """Done of all, a rate, the time left."""
    done = f"{report.total - report.left:,} of {report.total:,}"
    rate = "" if report.rate is None else f"{report.rate:.1f} a second"
    left = "" if report.seconds_left is None or not report.left else f"{clock_time(report.seconds_left)} left"
    return done, rate, left


@contextmanager
def _bar(screen: Console) -> Iterator[Tell]:
    with figures_bar(screen, "encoding") as show:
        begun = False

        def tell(report: ReindexReport) -> None:
            nonlocal begun
            if not begun:
                begun = True
                _resumed(report, screen.print)
            figures = "  ".join(filter(None, _figures(report)))
            show(report.total - report.left, report.total, figures)

        yield tell


def _resumed(report: ReindexReport, speak: Callable[[str], None]) -> None:
    if report.already:
        speak(f"{report.already:,} of {report.total:,} already done")


class _Lines:
    """What was done before, and a line each time that another tenth is complete."""

    def __init__(self) -> None:
        self._tenth: int | None = None

    def __call__(self, report: ReindexReport) -> None:
        tenth = (report.total - report.left) * 10 // max(1, report.total)
        if self._tenth is None:
            _resumed(report, note)
        elif tenth > self._tenth:
            note(", ".join(filter(None, _figures(report))))
        self._tenth = tenth
