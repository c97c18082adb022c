"""Write docs/cli.md from the commands themselves.

    python tools/cli_docs.py           writes it
    python tools/cli_docs.py --check   exit code 1 when it is not up to date

The pages hold what ``--help`` says, laid out here, so that another version of click changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from reverie.cli.main import EXIT_CODES, cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"

HEAD = """\
# The command line

<!-- Written by tools/cli_docs.py from the commands' own help: change it there. -->

`reverie COMMAND --help` says the same in the terminal.

- Tables are for people and fit the terminal; `--json` is for machines: one document, or one line per
  entry for lists. Colours appear in a terminal only, and never with `NO_COLOR` set.
- Results go to standard output, remarks and progress to standard error. Every error is one line that
  begins with `reverie: `; `reverie --debug COMMAND` shows where it comes from.
- `-` in place of images or ids reads them from standard input, one a line:
  `reverie cache list --json | jq -r .cache_id | reverie cache pin -`
- The cache is the one of `--cache DIR`; else of the environment variable `REVERIE_CACHE`; else `./cache`
  if there is a cache in it; else the user's own. `reverie cache path` says which, and why.
"""


def page() -> str:
    """The whole page."""
    codes = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    table = "\n".join(["## Exit codes", "", "| code | meaning |", "|---|---|", *codes])
    return (
        "\n\n".join([HEAD.rstrip(), table, *_sections(cli, click.Context(cli, info_name="reverie"))]) + "\n"
    )


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    yield _section(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _sections(inner, click.Context(inner, info_name=name, parent=context))


def _section(command: click.Command, context: click.Context) -> str:
    words = [f"## `{context.command_path}`", _usage(command, context), *_paragraphs(command.help)]
    options = [param for param in command.params if isinstance(param, click.Option)]
    if options:
        rows = [f"| `{_spelling(option)}` | {_meaning(option)} |" for option in options]
        words.append("\n".join(["| option | |", "|---|---|", *rows]))
    if context.parent is not None:  # the root's epilog is the table of exit codes
        words += _paragraphs(command.epilog)
    return "\n\n".join(words)


def _usage(command: click.Command, context: click.Context) -> str:
    arguments = [str(param.metavar) for param in command.params if isinstance(param, click.Argument)]
    rest = ["COMMAND ..."] if isinstance(command, click.Group) else arguments
    return "\n".join(["```", " ".join([context.command_path, "[OPTIONS]", *rest]), "```"])


def _paragraphs(text: str | None) -> list[str]:
    return [" ".join(part.split()) for part in (text or "").strip().split("\n\n") if part.strip()]


def _spelling(option: click.Option) -> str:
    metavar = f" {option.metavar}" if option.metavar else ""
    return (", ".join(option.opts) + metavar).replace("|", "\\|")


def _meaning(option: click.Option) -> str:
    default = f" Default: `{option.default}`." if option.show_default else ""
    return ((option.help or "").replace("  [default: ", " [default: ") + default).replace("|", "\\|")


def main() -> int:
    """Write the page, or check it; the exit code."""
    if sys.argv[1:] == ["--check"]:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
