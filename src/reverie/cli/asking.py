"""Asking before something is deleted."""

from __future__ import annotations

import click

from reverie.cli import output
from reverie.errors import CacheError

__all__ = ["agreed"]


def agreed(question: str, yes: bool, *, scripts_may: bool = False) -> None:
    """Return when the person agrees, or did so with ``--yes``.

    Args:
        question: What is about to happen.
        yes: Whether ``--yes`` was given.
        scripts_may: Whether no question is needed where nobody can be asked.

    Raises:
        CacheError: The answer was no.
        click.UsageError: Nobody can be asked, and ``--yes`` is needed.
    """
    if yes or (scripts_may and not output.is_interactive()):
        return
    if not output.is_interactive():
        raise click.UsageError("nobody can be asked here: say --yes", click.get_current_context())
    if not click.confirm(question, err=True):
        raise CacheError("nothing was removed")
