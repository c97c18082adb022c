"""What `reverie study` does around the library's study: progress, and what is written and said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie.cli.output import console, near, note, say
from reverie.errors import InputError
from reverie.report.study_files import write_study
from reverie.study.arms import ARMS
from reverie.study.design import Design, Trial
from reverie.study.run import Progress, read_results, run_study
from reverie.study.tables import as_markdown

__all__ = ["run"]


def run(chosen: Mapping[str, Any]) -> None:
    """Run a study with these options, and write its tables, plots and page; raises as `run_study`.

    Raises:
        InputError: Nothing is to be run, and nothing is there.
    """
    out: Path = chosen["out"]
    design = Design(
        chosen["part"],
        chosen["arms"] or tuple(ARMS),
        chosen["generators"],
        chosen["pictures"] or (24, 3, 1, 0),
        chosen["loops"],
        chosen["frames"],
    )
    trials = list(design.trials())
    results = read_results(out, trials) if chosen["no_run"] else _run(design, chosen)
    if chosen["no_run"] and not results:
        raise InputError(f"{near(out)} holds no loop of such a study: leave --no-run out to run it")
    planned = len({trial.same_loop() for trial in trials})
    written = write_study(out, results, design.as_dict(), planned=planned)
    say(as_markdown(results, design.as_dict()).rstrip())
    say()
    done = len({Trial(**result["trial"]).same_loop() for result in results})
    if done < planned:
        note(f"{done} of {planned} loops are there: the tables are of these")
    say(f"look at {', '.join(near(path) for path in written[:3])}, {near(out / 'trials')}")


def _run(design: Design, chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
    note(f"studying into {near(chosen['out'])} (Ctrl-C keeps what is done; the same command goes on)")
    with _progress() as on_progress:
        return run_study(design, chosen["out"], processes=chosen["processes"], on_progress=on_progress)


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar in a terminal; a line every tenth elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    err = console(stderr=True)
    if not err.is_terminal:
        yield _lines
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=err) as bar:
        task = bar.add_task("loops")

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        yield show


def _lines(progress: Progress) -> None:
    if progress.done == progress.total or progress.done % max(1, progress.total // 10) == 0:
        note(f"{progress.done} of {progress.total} loops")
