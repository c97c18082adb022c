"""What `reverie study` does around the library's study: progress, files, the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from reverie.cli.output import console, near, note, say
from reverie.storage import replace_file
from reverie.study.arms import ARMS
from reverie.study.design import Design
from reverie.study.run import Progress, run_study
from reverie.study.tables import as_json, as_markdown

__all__ = ["run"]


def run(chosen: Mapping[str, Any]) -> None:
    """Run a study with these options, and write its tables; raises as `run_study`."""
    out: Path = chosen["out"]
    design = Design(
        chosen["part"],
        chosen["arms"] or tuple(ARMS),
        chosen["generators"],
        chosen["pictures"] or (24, 3, 1, 0),
        chosen["loops"],
        chosen["frames"],
    )
    note(f"studying into {near(out)} (Ctrl-C keeps what is done; the same command goes on)")
    with _progress() as on_progress:
        results = run_study(design, out, processes=chosen["processes"], on_progress=on_progress)
    text, record = as_markdown(results, design.as_dict()), as_json(results, design.as_dict())
    replace_file(out / "study.md", [text.encode()], durable=False)
    replace_file(out / "study.json", [orjson.dumps(record, option=orjson.OPT_INDENT_2), b"\n"], durable=False)
    say(text.rstrip())
    say()
    say(f"look at {near(out / 'study.md')}, {near(out / 'study.json')}, {near(out / 'trials')}")


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
