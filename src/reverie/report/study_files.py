"""Everything that a study's results are turned into, written into its folder."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from reverie.report.forest import render_forest
from reverie.report.scatter import render_scatters
from reverie.report.study_figures import Arms, blends_plot, cuts_plot, forests
from reverie.report.study_page import StudyResults, render_study
from reverie.report.study_sheet import StudySheet, draw_sheet, study_sheet
from reverie.storage import replace_file, storage_error
from reverie.study.statistics import Group, grouped
from reverie.study.tables import Link, as_json, as_markdown, group_title

__all__ = ["write_study"]


def write_study(
    folder: Path,
    results: Sequence[Mapping[str, Any]],
    design: Mapping[str, Any],
    *,
    planned: int | None = None,
) -> list[Path]:
    """Write tables, plots, contact sheets and a page of what there is; a study need not be finished.

    Each file is replaced in one step. Plots and sheets of groups that are not in the results are left alone.

    Args:
        folder: Of the study; strips are read from its ``trials``.
        results: As `reverie.study.run.run_study` gives them.
        design: As `reverie.study.design.Design.as_dict` gives it.
        planned: Loops of the design, each once, so that the page can say what is missing.

    Returns:
        ``study.html``, ``study.md``, ``study.json``, then ``plots/*.svg`` and ``sheets/*.webp``.

    Raises:
        InputError: A strip is no picture.
        StorageError: The disk refused; files written before that stay.
    """
    groups = grouped(results)
    sheets = {
        group: study_sheet(group, arms, folder, int(design["frames"])) for group, arms in groups.items()
    }
    _make(folder / "plots", folder / "sheets")
    overview = _overview(folder, groups)
    pictures = {group: _pictures(folder, group, arms, sheets[group]) for group, arms in groups.items()}
    text = as_markdown(results, design, overview=overview, pictures=pictures)
    record = orjson.dumps(as_json(results, design), option=orjson.OPT_INDENT_2)
    page = render_study(StudyResults(design, groups, sheets, planned))
    return [
        _put(folder / "study.html", page.encode()),
        _put(folder / "study.md", text.encode()),
        _put(folder / "study.json", record + b"\n"),
        *(folder / path for links in (overview, *pictures.values()) for _, path in links),
    ]


def _make(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise storage_error(f"make {folder}", exc) from exc


def _put(path: Path, data: bytes) -> Path:
    replace_file(path, [data], durable=False)
    return path


def _overview(folder: Path, groups: Mapping[Group, Arms]) -> list[Link]:
    links = []
    for pictures, forest in forests(groups).items():
        path = f"plots/overview_{pictures:02d}.svg"
        _put(folder / path, render_forest(forest, alone=True).encode())
        links.append((f"{forest.title}; seed pictures known: {pictures}", path))
    return links


def _pictures(folder: Path, group: Group, arms: Arms, sheet: StudySheet) -> list[Link]:
    name, title = f"{group[0]}_{group[1]:02d}", group_title(group)
    plot, picture = f"plots/{name}.svg", f"sheets/{name}.webp"
    drawn = render_scatters(title, [cuts_plot(group, arms), blends_plot(group, arms)])
    _put(folder / plot, drawn.encode())
    buffer = io.BytesIO()
    draw_sheet(sheet).save(buffer, "WEBP", quality=80, method=4)
    _put(folder / picture, buffer.getvalue())
    return [
        (f"{title}: diversity against hard cuts, and at the end against blends", plot),
        (f"{title}: one loop of every arm, over time", picture),
    ]
