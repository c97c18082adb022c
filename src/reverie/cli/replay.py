"""`reverie replay`: recorded frames through other policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reverie.cli.params import json_option

__all__ = ["replay"]


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """``key=value`` texts as a dict; a value is JSON where it can be read as such, else a text."""
    import json

    found: dict[str, Any] = {}
    for text in values:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            raise click.BadParameter(f"{text!r} is not key=value, such as cooldown=30")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def _cosine(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | str | None:
    """A number, or the text ``none``; None stays None."""
    if value is None or value == "none":
        return value
    try:
        return float(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is neither a cosine nor none") from exc


@click.command(
    "replay",
    short_help="Show what another policy would have made of a run.",
    epilog="JSON: what replay.json holds: the recorded loop, and a row per replay. replay.jsonl has a line "
    "per frame and replay: what was kept, evicted and wanted, and why.",
)
@click.argument("journal", type=click.Path(path_type=Path), metavar="JOURNAL")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="Give it again for more (see `reverie parts`).  [default: wander gentle restless spec]",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    callback=_pairs,
    metavar="KEY=VALUE",
    help="Of the policies, such as cooldown=30; give it again for more.",
)
@click.option(
    "--eviction",
    "evictions",
    multiple=True,
    metavar="NAME",
    help="Give it again for more: each policy with each.  [default: what suits the policy]",
)
@click.option(
    "--admission",
    callback=_cosine,
    metavar="X",
    help="Highest cosine to memory at which a frame is kept, or none.  [default: what suits the policy]",
)
@click.option("--max-size", type=click.IntRange(min=1), metavar="N", help="Of memory.  [default: a run's]")
@click.option(
    "--remember-seeds/--no-remember-seeds",
    default=None,
    help="Put the recorded seed pictures into memory first.  [default: what suits the policy]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", help="Of all that is random.  [default: the run's]"
)
@click.option("--encoder", metavar="NAME", help="Encode the pictures with another one.  [default: the run's]")
@click.option("--arm", metavar="NAME", help="Which loop of a run.  [default: with]")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Write replay.json and replay.jsonl."
)
@json_option
def replay(**chosen: Any) -> None:
    """Show what other policies and memories would have made of the very same frames.

    JOURNAL is a journal.jsonl, the folder of a loop, or the folder of a run. Nothing in it is
    changed, and no generator is needed.

    A replay is an open loop: the frames are recorded, so an injection cannot change what
    follows. Up to the frame given as exact a policy would really have done this; after it, this
    is what it would do in a loop that goes on like the recorded one. A way to a memory that was
    not recorded is taken to last as many frames as the policy's transition plans.
    """
    from reverie.cli.replaying import run

    run(chosen)
