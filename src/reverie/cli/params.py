"""Options and argument types that several commands share."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from reverie.cli.place import Place, find_cache

if TYPE_CHECKING:
    from reverie.cache.similarity_scale import Percentile

__all__ = [
    "cache_option",
    "given",
    "json_object",
    "json_option",
    "model_options",
    "no_nan",
    "options_given",
    "size_limit",
    "spelled_out",
    "threshold_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])


_MOST_DIGITS = 18  # of a number of entries: no cache is larger, and int() refuses thousands of digits


def json_object(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """The dict that a JSON text holds (None stays None); anything else is wrong usage."""
    if value is None:
        return None
    try:
        parsed = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise click.BadParameter(f"not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise click.BadParameter("""must be an object such as '{"denoise": 0.4}'""")
    return parsed


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def no_nan(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    """The number, unless it is NaN, which lies in every range for click: wrong usage."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


def size_limit(_ctx: click.Context, _param: click.Parameter, value: str) -> int | None:
    """A number of at least 1, or None for ``none``; anything else is wrong usage."""
    if value == "none":
        return None
    if not value.isdecimal() or len(value) > _MOST_DIGITS or int(value) < 1:
        raise click.BadParameter(f"{value[:40]!r} is neither a number of at least 1 nor none")
    return int(value)


def cache_option(command: Command) -> Command:
    """``--cache DIR``; the command gets the argument ``place``."""

    def find(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Place:
        if value == "":  # an unset variable, as a rule: another cache than the one that was meant
            raise click.BadParameter("the name is empty; leave it out for the default")
        return find_cache(value)

    option: Callable[[Command], Command] = click.option(
        "--cache",
        "place",
        metavar="DIR",
        callback=find,
        help="The cache folder.  [default: $REVERIE_CACHE, else ./cache, else the user's own]",
    )
    return option(command)


def model_options(command: Command) -> Command:
    """``--threads`` and ``--model-dir``: what an encoder with a model takes; None when they are not given."""
    for option in (
        click.option(
            "--model-dir", metavar="PATH", help="A folder or file with the encoder's model: no network."
        ),
        click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Processor threads at most."),
    ):
        command = option(command)
    return command


def _threshold(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | Percentile | None:
    """A cosine or a percentile (None stays None); anything else is wrong usage."""
    if value is None:
        return None
    from reverie.cache.similarity_scale import threshold_of
    from reverie.errors import InputError

    try:
        return threshold_of(value)
    except InputError as exc:
        raise click.BadParameter(str(exc)) from exc


def threshold_option(meaning: str) -> Callable[[Command], Command]:
    """``--threshold X|pN``: a cosine or a percentile; None when it is not given."""
    option: Callable[[Command], Command] = click.option(
        "--threshold", callback=_threshold, metavar="X|pN", help=meaning
    )
    return option


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that were given; click passes None for the others."""
    return {name: value for name, value in options.items() if value is not None}


def json_option(command: Command) -> Command:
    """``--json``; the command gets the argument ``as_json``."""
    option: Callable[[Command], Command] = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON for machines."
    )
    return option(command)


def spelled_out(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, each ``-`` replaced by the lines of standard input."""
    for argument in arguments:
        if argument == "-":
            lines = (line.rstrip("\r\n") for line in sys.stdin)
            yield from (line for line in lines if line.strip())
        else:
            yield argument


def options_given(ctx: click.Context) -> dict[str, Any]:
    """Values of the options that were typed, by name; defaults are left out."""
    typed = (name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE)
    return {name: ctx.params[name] for name in typed}
