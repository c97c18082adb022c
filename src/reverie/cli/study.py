"""`reverie study`: policies side by side on several generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["study"]


@click.command("study", short_help="Compare injection policies, with confidence intervals.")
@click.option(
    "--part",
    default="held-out",
    show_default=True,
    metavar="NAME",
    help="held-out (what is reported) or development (what parameters are chosen on).",
)
@click.option("--arm", "arms", multiple=True, metavar="NAME", help="Give it again for more.  [default: all]")
@click.option(
    "--generator",
    "generators",
    multiple=True,
    metavar="NAME",
    help="Give it again for more.  [default: all of the part]",
)
@click.option(
    "--pictures",
    multiple=True,
    type=click.IntRange(0, 24),
    metavar="N",
    help="Seed pictures that an arm may know; give it again for more.  [default: 24 3 1 0]",
)
@click.option(
    "--loops", type=click.IntRange(min=1), metavar="N", help="Of each arm.  [default: as the part has]"
)
@click.option(
    "--frames", type=click.IntRange(min=2), default=400, show_default=True, metavar="N", help="Of each loop."
)
@click.option(
    "--processes", type=click.IntRange(min=1), metavar="N", help="Side by side.  [default: one a processor]"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("study"),
    show_default=True,
    metavar="DIR",
    help="Gone on with when it is there.",
)
@click.option(
    "--no-run", is_flag=True, help="Run nothing, only write tables, plots and page of what is there."
)
def study(**chosen: Any) -> None:
    """Run loops under several injection policies, and compare them seed by seed.

    Every arm begins with the same pictures and has the same noise; the same loop is judged by the
    descriptor that steers and by a second one. Ctrl-C keeps what is done, the same command goes on.
    A full study takes hours; --loops 2 gives a first look, and --no-run one at what is done so far.

    DIR holds study.html with everything on one page, study.md, study.json, plots, sheets, and each
    loop in trials.
    """
    from reverie.cli.studying import run

    run(chosen)
