"""`reverie report`: the report of a run, written again."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["report"]


@click.command("report", short_help="Write the report of a run again.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--animation", default="webp", show_default=True, metavar="webp|gif|mp4", help="Form of the animation."
)
def report(folder: Path, animation: str) -> None:
    """Write contact sheet, charts, animation and report.html of a run again.

    DIR is a folder that `reverie dream` made, also one that was stopped early.
    """
    from reverie.cli.dreaming import tell_files
    from reverie.report.write import write_report

    tell_files(folder, write_report(folder, animation=animation))
