"""`reverie dream`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reverie.cli.generating import generator_options
from reverie.cli.params import model_options, no_nan, options_given

__all__ = ["dream"]


@click.command("dream", short_help="Run a loop without and with memory, and compare.")
@click.option(
    "--frames", type=click.IntRange(min=1), default=300, show_default=True, metavar="N", help="Of each loop."
)
@click.option(
    "--seeds",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Your own pictures, of any size, to start from.  [default: 24 built-in ones]",
)
@click.option(
    "--policy",
    default="wander",
    show_default=True,
    metavar="NAME",
    help="When memory steps in, and with what (see `reverie parts`).",
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    callback=no_nan,
    default=0.5,
    show_default=True,
    metavar="X",
    help="0 keeps a frame's input, 1 forgets it.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),  # what the journal can hold
    default=0,
    show_default=True,
    metavar="N",
    help="The same seed gives the same frames.",
)
@click.option(
    "--prompt",
    default="",
    metavar="TEXT",
    help="For generators that read one; {a|b} is one of them, __name__ a line of name.txt.",
)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Prompts that take turns, one a line.",
)
@click.option(
    "--prompt-every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Frames that a prompt is held for.  [default: 60; one alone for ever]",
)
@click.option(
    "--wildcards",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Text files with what __name__ may be.",
)
@click.option(
    "--size",
    type=click.IntRange(11, 2048),  # what the built-in generator makes
    metavar="PX",
    help="Side of a frame, 11 to 2048.  [default: the generator's own; 128 for patches]",
)
@click.option(
    "--generator", default="patches", show_default=True, metavar="NAME", help="What makes the frames."
)
@generator_options
@click.option(
    "--encoder", default="descriptor", show_default=True, metavar="NAME", help="What compares them."
)
@model_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A new or empty folder.  [default: ./dream, then ./dream-2, ...]",
)
@click.option(
    "--remember-seeds/--no-remember-seeds",
    default=None,
    help="Put the seed pictures into memory, pinned, first.  [default: what suits the policy]",
)
@click.option(
    "--towards",
    default="",
    metavar="TEXT",
    help="What to tend to: a text or a picture, for policies that ask.",
)
@click.option(
    "--colour",
    type=click.Choice(["off", "soft", "hard"]),
    default="off",
    show_default=True,
    help="Take colour drift back in the loop with memory: a part of it at every frame, or all.",
)
@click.option(
    "--live",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep current_frame.png and status.json of the loop with memory there, for displays and widgets.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Go on with the run in this folder, to --frames when given.",
)
@click.option("--no-report", is_flag=True, help="Frames and journal only.")
@click.pass_context
def dream(ctx: click.Context, /, no_report: bool, **chosen: Any) -> None:
    """Run a generative loop twice, without and with memory, and show what memory changed.

    Both loops start from the same picture with the same noise. The folder gets all frames, a
    journal, a contact sheet, an animation, charts and report.html. Ctrl-C ends the run with what
    there is; the report is still written, and --resume goes on from there, bit for bit.
    """
    from reverie.cli.dreaming import finish, go_on, run

    resumed = chosen.pop("resume")
    result = run(chosen) if resumed is None else go_on(resumed, options_given(ctx))
    finish(result, with_report=not no_report)
    if not result.finished:
        raise click.exceptions.Exit(130)
