"""The command `reverie`: its tree, and the one place where errors become lines and exit codes.

Nothing heavy is imported here or in a noun's module: a command imports what it needs when it runs.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from reverie._version import __version__
from reverie.cli.output import complain
from reverie.errors import ReverieError

__all__ = ["EXIT_CODES", "LazyGroup", "RootGroup", "cli", "main"]

OURS, USAGE, PROBLEMS, BUG, INTERRUPTED, BROKEN_PIPE = 1, 2, 3, 70, 130, 141

EXIT_CODES: Mapping[int, str] = {
    0: "fine",
    OURS: "it could not be done; one line says why",
    USAGE: "wrong usage",
    PROBLEMS: "`cache check` found problems",
    BUG: "a bug in reverie; --debug shows where",
    INTERRUPTED: "interrupted with Ctrl-C",
    BROKEN_PIPE: "whoever read the output went away",
}
"""What the exit code of a command means."""


class LazyGroup(click.Group):
    """A group whose commands are loaded by name, in the order given.

    Args:
        homes: Command name to ``module:attribute``.
        settings: As `click.Group`.
    """

    def __init__(self, *, homes: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings, invoke_without_command=True)
        self._homes = homes

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order given."""
        return list(self._homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Load a command, or None when there is none of that name."""
        if cmd_name not in self._homes:
            return None
        module, _, attribute = self._homes[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named; without one, show the help."""
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            click.echo(ctx.get_help())
        return result


@contextmanager
def _quiet_pipe() -> Iterator[None]:
    """When the reader of standard output went away (``| head``), stop without a word."""
    try:
        yield
    except BrokenPipeError as exc:
        # What is still buffered would fail again when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(BROKEN_PIPE) from exc


class RootGroup(LazyGroup):
    """The root: every error leaves here as one line on standard error and an exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the root's own options; ``--help`` prints here already."""
        with _quiet_pipe():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; an error of ours or a bug becomes a line and `click.exceptions.Exit`."""
        debug = bool(ctx.params.get("debug"))
        try:
            with _quiet_pipe():
                return super().invoke(ctx)
        except ReverieError as exc:
            if debug:
                traceback.print_exc()
            complain(str(exc))
            raise click.exceptions.Exit(OURS) from exc
        except (click.ClickException, click.Abort, click.exceptions.Exit, EOFError):
            raise
        except Exception as exc:
            if debug:
                traceback.print_exc()
            complain(f"unexpected {type(exc).__name__}: {exc} (a bug; see where with: reverie --debug ...)")
            raise click.exceptions.Exit(BUG) from exc

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - click's signature; this group always ends the process
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and end the process with its exit code."""
        sys.exit(self._run(args, prog_name or "reverie", complete_var, **extra))

    def _run(self, args: Sequence[str] | None, prog_name: str, complete_var: str | None, **extra: Any) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as exc:
            path = exc.ctx.command_path if exc.ctx else prog_name
            complain(f"{exc.format_message().rstrip('.')} (see: {path} --help)")
            return USAGE
        except click.ClickException as exc:
            complain(exc.format_message())
            return OURS
        except (click.Abort, KeyboardInterrupt):
            complain("interrupted")
            return INTERRUPTED
        return code if isinstance(code, int) else 0


def _epilog() -> str:
    lines = [f"{code:>5}  {meaning}" for code, meaning in EXIT_CODES.items()]
    return "\n".join(["\b", "Exit codes:", *lines])


@click.group(
    "reverie",
    cls=RootGroup,
    homes={
        "dream": "reverie.cli.dream:dream",
        "replay": "reverie.cli.replay:replay",
        "study": "reverie.cli.study:study",
        "report": "reverie.cli.report:report",
        "cache": "reverie.cli.cache:cache",
        "models": "reverie.cli.models:models",
        "metadata": "reverie.cli.metadata:metadata",
        "parts": "reverie.cli.parts:parts",
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=_epilog(),
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli(debug: bool) -> None:
    """The image memory that keeps generative loops dreaming."""


def main() -> NoReturn:
    """Run `reverie` with the arguments of this process."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that lacks a character shows a ? instead of failing
    cli.main()
