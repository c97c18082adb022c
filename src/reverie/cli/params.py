"""Options and argument types that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

from reverie.cli.place import Place, find_cache

__all__ = ["JsonObject", "SizeLimit", "cache_option", "json_option", "spelled_out"]

Command = TypeVar("Command", bound=Callable[..., Any])


class JsonObject(click.ParamType):
    """A JSON object, as a dict."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """The dict; anything else is wrong usage."""
        if isinstance(value, dict):
            return value
        try:
            parsed = json.loads(value)
        except ValueError as exc:
            self.fail(f"not JSON: {exc}", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f"""must be an object such as '{{"denoise": 0.4}}'""", param, ctx)
        return parsed


class SizeLimit(click.ParamType):
    """A number of entries of at least 1, or ``none`` for no limit."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The number, or None."""
        if value is None or value == "none":
            return None
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a number of at least 1 nor 'none'", param, ctx)
        return int(value)


def cache_option(command: Command) -> Command:
    """``--cache DIR``; the command gets the argument ``place``."""

    def find(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Place:
        return find_cache(value)

    return click.option(
        "--cache",
        "place",
        metavar="DIR",
        callback=find,
        help="The cache folder.  [default: $REVERIE_CACHE, else ./cache, else the user's own]",
    )(command)


def json_option(command: Command) -> Command:
    """``--json``; the command gets the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)


def spelled_out(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, each ``-`` replaced by the lines of standard input."""
    for argument in arguments:
        if argument == "-":
            lines = (line.rstrip("\r\n") for line in click.get_text_stream("stdin"))
            yield from (line for line in lines if line.strip())
        else:
            yield argument
