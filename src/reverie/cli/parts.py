"""`reverie parts`: what is chosen by name."""

from __future__ import annotations

from typing import Any

import click

from reverie.cli.output import Column, json_line, print_table
from reverie.cli.params import json_option

__all__ = ["parts"]


@click.command(
    "parts",
    short_help="List the parts that are chosen by name.",
    epilog="JSON: one line per part with kind, name, usable, about (what it is, or what it needs).",
)
@json_option
def parts(as_json: bool) -> None:
    """List what is chosen by name: encoders, generators, policies, indexes, ..."""
    listed = _all_parts()
    if as_json:
        for part in listed:
            json_line(part)
        return
    columns = [Column("kind"), Column("name"), Column("usable"), Column("about", wraps=True)]
    print_table(columns, [_row(part) for part in listed])


def _row(part: dict[str, Any]) -> list[str]:
    return [part["kind"], part["name"], "yes" if part["usable"] else "no", part["about"]]


def _all_parts() -> list[dict[str, Any]]:
    from reverie import registry

    return [_part(kind, name) for kind in registry.kinds() for name in registry.names(kind)]


def _part(kind: str, name: str) -> dict[str, Any]:
    from reverie import registry
    from reverie.errors import MissingDependencyError

    try:
        first_line = (registry.load(kind, name).__doc__ or "").strip().partition("\n")[0]
        about, usable = first_line.replace(f" (``{name}``)", "").replace("``", ""), True
    except MissingDependencyError as exc:
        about, usable = str(exc), False
    return {"kind": kind, "name": name, "usable": usable, "about": about}
