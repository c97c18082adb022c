"""What `reverie cache import` does and shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.manager import CacheManager
from reverie.cli.counting import figures_bar
from reverie.cli.downloading import downloads
from reverie.cli.main import INTERRUPTED, OURS
from reverie.cli.output import complain, console, count, json_line, near, note, say, size
from reverie.cli.params import given
from reverie.cli.place import Place
from reverie.cli.progress import clock_time
from reverie.cli.searching import told
from reverie.errors import InputError
from reverie.importing import Importing, ImportReport, Watching
from reverie.importing.folders import Folders

__all__ = ["Import", "result", "summary"]

Tell: TypeAlias = Callable[[ImportReport], None]
Speak: TypeAlias = Callable[[str], None]

_NAMED = 20  # pictures that cannot be used, before the rest is only counted
_JSON_UP_TO = (
    500  # entries: with more, writing a JSON index as a whole for every batch takes most of the time
)


class Import:
    """One import, as the command line shows it.

    Args:
        folders: Their names.
        place: Where the cache is, or will be.
        copy: Whether to copy the files, not to link them.
        encoder: Name of a registered encoder, or ``none``.
        no_embeddings: Whether to make no vectors.
        prompt: For all of them.
        params: For all of them; None for none.
        again: Whether to import what the cache holds already.
        strict: Whether a picture that cannot be used makes the exit code 1.
        max_size: Most entries; None for no limit.
        evict: Whether entries go for others at that limit.
        watch: Whether to go on with what appears.
        poll: Seconds between two looks; None to be told by the system.
        as_json: Whether to speak JSON.
        options: Of the encoder; None for one that was not given.

    Raises:
        InputError: ``evict`` without a limit, or ``poll`` without watching.
        UnknownNameError: No encoder of that name.
    """

    def __init__(
        self,
        folders: Sequence[str],
        place: Place,
        *,
        copy: bool,
        encoder: str,
        no_embeddings: bool,
        prompt: str,
        params: dict[str, Any] | None,
        again: bool,
        strict: bool,
        max_size: int | None,
        evict: bool,
        watch: bool,
        poll: float | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        if evict and max_size is None:
            raise InputError("--evict says what happens at a limit: give one with --max-size N")
        if poll is not None and not watch:
            raise InputError("--poll is a way to watch: give --watch, too")
        self._folders = folders
        self._place = place
        plain = no_embeddings or encoder == "none"
        self._matcher = None if plain else AestheticMatcher(encoder, **given(options))
        self._about: dict[str, Any] = {"prompt": prompt, "generation_params": params, "link": not copy}
        self._about |= {"embed": not plain, "again": again, "evict": evict}
        self._strict = strict
        self._max_size = max_size
        self._watch = watch
        self._poll = poll
        self._as_json = as_json
        self._watching = False

    def run(self) -> int:
        """Import, watch if that is wanted, and say what came out; the exit code.

        Raises:
            ReverieError: The folders, the encoder or the cache cannot be used, or the disk refused.
        """
        self._check_folders()
        if self._matcher is not None:
            with downloads():
                self._matcher.load()
        with told():
            cache = CacheManager(self._place.path, None)
        with cache:
            cache.max_size = self._max_size
            self._warn_of_json(cache)
            with _progress() as (tell, speak):
                job = Importing(cache, self._folders, encoder=self._matcher, progress=tell, **self._about)
                interrupted = self._work(job, speak)
        return self._told(job.report, interrupted)

    def _check_folders(self) -> None:
        """What cannot be is an error before a cache is made."""
        found = Folders(self._folders, self._place.path)
        if not self._watch and next(found.pictures(), None) is None and not found.closed:
            names = ", ".join(near(root) for root in found.roots)
            raise InputError(f"there are no pictures below {names} (hidden files are passed over)")

    def _warn_of_json(self, cache: CacheManager) -> None:
        if cache.index_kind == "json" and len(cache) > _JSON_UP_TO:
            note(
                f"this cache keeps {len(cache):,} entries in a JSON file, which every batch writes anew. "
                f"Faster, once and for all: reverie cache convert --to sqlite{self._place.option()}"
            )

    def _work(self, job: Importing, speak: Speak) -> bool:
        """Whether Ctrl-C ended it before its time."""
        try:
            if self._watch:
                Watching(job, poll=self._poll, ready=lambda: self._now_watching(job, speak)).run()
            else:
                job.run()
        except KeyboardInterrupt:
            return not self._watching
        return False

    def _now_watching(self, job: Importing, speak: Speak) -> None:
        self._watching = True
        names = ", ".join(near(root) for root in job.folders.roots)
        speak(f"{job.report.imported:,} imported; watching {names} (Ctrl-C ends it)")

    def _told(self, report: ImportReport, interrupted: bool) -> int:
        for error in list(report.failures.values())[:_NAMED]:
            complain(error)
        if len(report.failures) > _NAMED:
            note(f"and {len(report.failures) - _NAMED:,} more that cannot be used (--json names all)")
        if self._as_json:
            json_line(result(report, self._place))
        else:
            say(summary(report, self._place))
        if interrupted:
            note("interrupted; what is imported is kept, and the same command goes on from there")
            return INTERRUPTED
        return self._code(report)

    def _code(self, report: ImportReport) -> int:
        useless = report.failures and not report.imported and not report.known
        return OURS if useless or (self._strict and report.failures) else 0


def summary(report: ImportReport, place: Place) -> str:
    """What came out, as a sentence."""
    parts = [f"{report.imported:,} imported"]
    if report.known:
        parts.append(f"{report.known:,} already there")
    if report.failures:
        parts.append(f"{len(report.failures):,} not usable")
    if report.left:
        parts.append(f"{report.left:,} left")
    pictures = f"{', '.join(parts)} of {count(report.total, 'picture')}, into {near(place.path)}"
    if report.described:
        pictures += f", {report.described:,} of which say how they were made"
    if report.evicted:
        pictures += f", {report.evicted:,} others evicted"
    if report.rate is None:
        return pictures
    return f"{pictures} ({size(report.byte_size)}, {report.seconds:.1f} s, {report.rate:.0f} a second)"


def result(report: ImportReport, place: Place) -> dict[str, Any]:
    """What came out, as JSON takes it."""
    return {
        "folder": str(place.path),
        "encoder": report.encoder,
        "total": report.total,
        "imported": report.imported,
        "known": report.known,
        "failed": [{"image": path, "error": error} for path, error in report.failures.items()],
        "left": report.left,
        "described": report.described,
        "evicted": report.evicted,
        "byte_size": report.byte_size,
        "finished": report.finished,
        "seconds": round(report.seconds, 3),
        "rate": None if report.rate is None else round(report.rate, 1),
    }


@contextmanager
def _progress() -> Iterator[tuple[Tell, Speak]]:
    """Show on standard error how it goes, in a terminal only; gives what takes reports, and lines beside."""
    screen = console(stderr=True)
    if screen.is_terminal and not screen.is_dumb_terminal:
        with figures_bar(screen, "importing") as show:
            yield (
                lambda report: show(report.total - report.left, report.total, _figures(report)),
                screen.print,
            )
    else:
        yield lambda _report: None, note


def _figures(report: ImportReport) -> str:
    """Done of all, bytes, a rate, the time left."""
    parts = [f"{report.total - report.left:,} of {report.total:,}"]
    if report.rate is not None:
        parts += [size(report.byte_size), f"{report.rate:.0f} a second"]
    if report.seconds_left is not None and report.left:
        parts.append(f"{clock_time(report.seconds_left)} left")
    return "  ".join(parts)
