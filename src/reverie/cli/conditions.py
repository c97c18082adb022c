"""Options that say which entries a command is about."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from reverie.query import Where

__all__ = ["conditions"]

Command = TypeVar("Command", bound=Callable[..., Any])

_AGO = re.compile(r"(\d{1,6})\s*(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _when(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A time in nanoseconds: ISO 8601, or so long ago; anything else is wrong usage."""
    if value is None:
        return None
    from reverie.entry import timestamp_ns

    ago = _AGO.fullmatch(value.strip())
    if ago:
        return time.time_ns() - int(ago.group(1)) * _SECONDS[ago.group(2)] * 10**9
    found = timestamp_ns(value.strip())
    if not found:
        raise click.BadParameter(
            f"{value!r} is no time: such are 2025-11-08, 2025-11-08T20:30, 90m, 2h, 3d, 1w"
        )
    return found


def _params(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """Paths and values of ``PATH=VALUE``; a value that is no JSON is a text."""
    found: dict[str, Any] = {}
    for each in values:
        path, sign, text = each.partition("=")
        if not sign:
            raise click.BadParameter(f"{each!r} has no =: write it as steps=4 or sampler.name=euler")
        try:
            found[path] = json.loads(text)
        except ValueError:
            found[path] = text
    return found


def conditions(command: Command) -> Command:
    """``--words``, ``--has``, ``--since``, ``--until``, ``--pinned``; the command gets ``where``: `Where`."""

    @wraps(command)
    def with_where(**options: Any) -> Any:
        return command(where=_where(options), **options)

    decorated: Any = with_where
    for option in (
        click.option("--pinned/--not-pinned", default=None, help="Only pinned ones, or only the others."),
        click.option("--until", callback=_when, metavar="WHEN", help="Only what was added before."),
        click.option(
            "--since",
            callback=_when,
            metavar="WHEN",
            help="Only what was added since: 2025-11-08, 2025-11-08T20:30, or ago: 90m, 2h, 3d.",
        ),
        click.option(
            "--has",
            "params",
            multiple=True,
            callback=_params,
            metavar="PATH=VALUE",
            help="Only with this parameter: steps=4, sampler.name=euler.  [repeatable]",
        ),
        click.option(
            "--words",
            metavar="TEXT",
            help='Only with these words in the prompt; fo* begins so, "red fox" side by side.',
        ),
    ):
        decorated = option(decorated)
    typed: Command = decorated
    return typed


def _where(options: dict[str, Any]) -> Where:
    from reverie.errors import InputError
    from reverie.query import Where

    taken = {name: options.pop(name) for name in ("params", "since", "until", "pinned")}
    words = options.pop("words")
    if words is not None and not words.strip():
        raise click.UsageError("--words is empty: leave it out to take every prompt")
    try:
        return Where(words=words or "", **taken)
    except InputError as exc:
        raise click.UsageError(str(exc)) from exc
