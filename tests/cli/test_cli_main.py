"""The command tree, exit codes, errors, and what a start costs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_runs import Run, process

import reverie.cli
from reverie.cli.main import EXIT_CODES, cli
from reverie.errors import ReverieError, StorageError

HEAVY = {"numpy", "PIL", "torch", "orjson", "rich", "platformdirs", "filelock", "sqlite3"}


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command and group, the root's is empty."""
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def test_the_tree_has_the_documented_nouns() -> None:
    """Every command of the contract is there."""
    root = {"", "dream", "replay", "study", "report", "parts", "cache", "models", "metadata"}
    cache = (
        "add import list show similar search tag random pin unpin remove clear check convert reindex path "
        "stats duplicates export"
    )
    models = "list pull path remove engines quantise"
    nouns = {f"cache {noun}" for noun in cache.split()} | {f"models {noun}" for noun in models.split()}
    assert {" ".join(path) for path in commands()} == root | nouns


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_help_that_fits(path: tuple[str, ...], reverie: Run) -> None:
    """--help and -h say the same, in at most 80 columns, and exit with 0."""
    done = reverie(*path, "--help")
    assert done.exit_code == 0
    assert done.stdout == reverie(*path, "-h").stdout
    assert done.stdout.startswith(" ".join(["Usage: reverie", *path]))
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("path", [(), ("cache",)])
def test_a_group_alone_shows_its_help(path: tuple[str, ...], reverie: Run) -> None:
    """A group without a command is no error."""
    done = reverie(*path)
    assert (done.exit_code, done.stdout) == (0, reverie(*path, "--help").stdout)


def test_help_lists_the_exit_codes(reverie: Run) -> None:
    """The root's help ends with every exit code and its meaning, each on its own line."""
    lines = reverie("--help").stdout.splitlines()
    listed = {line.strip() for line in lines[lines.index("  Exit codes:") + 1 :]}
    assert listed == {f"{code}  {meaning}" for code, meaning in EXIT_CODES.items()}


def test_version(reverie: Run) -> None:
    """--version prints name and version."""
    assert reverie("--version").stdout == f"reverie {reverie_version()}\n"


def reverie_version() -> str:
    """The package's own word for it."""
    from reverie import __version__

    return __version__


@pytest.mark.parametrize("path", [(), ("cache",), ("cache", "add"), ("dream",), ("parts",)])
def test_help_loads_nothing_heavy(path: tuple[str, ...]) -> None:
    """--help imports no array, image, JSON or terminal library: that is what keeps it quick."""
    code = (
        "import sys, contextlib\nfrom reverie.cli.main import cli\n"
        f"with contextlib.suppress(SystemExit):\n    cli.main({[*path, '--help']!r})\n"
        f"print('LOADED', *sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_a_command_body_is_short() -> None:
    """Logic is not written in commands: at most 15 lines each, docstring aside."""
    folder = Path(reverie.cli.__file__).parent
    measured = 0
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                ".command(" in ast.unparse(d) for d in node.decorator_list
            ):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                assert node.end_lineno is not None
                assert node.end_lineno - body[0].lineno + 1 <= 15, f"{path.name}: {node.name}"
                measured += 1
    assert measured >= 16


EMPTY_NAME = (
    "reverie: Invalid value for '--cache': the name is empty; leave it out for the default "
    "(see: reverie cache clear --help)\n"
)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nope",), "reverie: No such command 'nope' (see: reverie --help)\n"),
        (("cache", "list", "--zzzz"), "reverie: No such option '--zzzz' (see: reverie cache list --help)\n"),
        (("cache", "add"), "reverie: Missing argument 'IMAGES...' (see: reverie cache add --help)\n"),
        (("cache", "clear", "--cache", ""), EMPTY_NAME),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments: tuple[str, ...], line: str, reverie: Run) -> None:
    """Wrong usage: one line on standard error that says where to read more."""
    done = reverie(*arguments)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.parametrize("command", ["list", "check", "add"])
def test_a_cache_that_cannot_be_looked_into(command: str, reverie: Run) -> None:
    """A name that is too long for the system is no bug of ours: one line that says so."""
    images = ["picture.png"] if command == "add" else []
    done = reverie("cache", command, *images, "--cache", "a" * 300)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "too long" in done.stderr


def from_nowhere(filled: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a working directory that was deleted."""
    code = (
        f"import os, sys\nos.mkdir('gone'); os.chdir('gone'); os.rmdir({str(filled.parent / 'gone')!r})\n"
        "from reverie.cli.main import main\n"
        f"sys.argv = {['reverie', *arguments]!r}\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_working_directory_that_was_deleted(filled: Path) -> None:
    """A cache named in full can be looked at from there; for a relative name an error says why not."""
    done = from_nowhere(filled, "cache", "list", "--cache", str(filled))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"3 entries in {filled}" in done.stdout
    for command in (("list",), ("convert", "--to", "sqlite"), ("check",)):
        done = from_nowhere(filled, "cache", *command, "--cache", "cache")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


class Failing:
    """Stands in for the list of parts and fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self) -> list[str]:
        raise self.error


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `reverie parts` raise."""
    monkeypatch.setattr("reverie.registry.kinds", Failing(error))


def test_an_error_of_ours_is_one_line_and_1(reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our message on one line, line breaks and control characters taken out, no traceback."""
    fail_with(StorageError("the disk\nis \x1b[31mfull"), monkeypatch)
    done = reverie("parts")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "reverie: the disk is \N{REPLACEMENT CHARACTER}[31mfull\n"


def test_debug_shows_the_traceback(reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --debug the traceback comes before the line."""
    fail_with(ReverieError("no"), monkeypatch)
    done = reverie("--debug", "parts")
    assert done.exit_code == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("reverie: no\n")


@pytest.mark.parametrize("error", [RuntimeError("boom"), OSError(5, "boom"), MemoryError("boom")])
def test_a_bug_is_one_line_and_70(error: Exception, reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected names its type and how to see more, without a traceback."""
    fail_with(error, monkeypatch)
    done = reverie("parts")
    assert done.exit_code == 70
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"reverie: unexpected {type(error).__name__}: ")
    assert "--debug" in done.stderr


def test_a_bug_with_debug_shows_where(reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--debug shows the traceback of a bug too."""
    fail_with(RuntimeError("boom"), monkeypatch)
    done = reverie("--debug", "parts")
    assert done.exit_code == 70
    assert "Traceback" in done.stderr


def test_an_interrupt_is_130(reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends any command with one line and 130."""
    fail_with(KeyboardInterrupt(), monkeypatch)
    done = reverie("parts")
    assert done.exit_code == 130
    assert done.stderr.strip() == "reverie: interrupted"


def test_an_interrupt_while_the_command_is_loaded_is_quiet(own_folder: Path) -> None:
    """Ctrl-C before anything of ours runs, in the middle of an import: 130, no traceback."""
    (own_folder / "click.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(own_folder), os.environ.get("PYTHONPATH", "")])
    done = process("parts", PYTHONPATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(os.name == "nt", reason="pipes end differently there")
@pytest.mark.parametrize("arguments", [["--help"], ["parts"], ["parts", "--json"]])
def test_a_reader_that_went_away_is_quiet(arguments: list[str]) -> None:
    """``| head``: nothing on standard error, exit code 141 as for other tools."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "reverie", *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_process_of_its_own() -> None:
    """``python -m reverie`` calls itself reverie and hands its exit code to the shell."""
    done = process("cache", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("reverie: there is no cache in ")
    assert process("--help").stdout.startswith("Usage: reverie ")


def test_a_terminal_without_unicode(filled: Path) -> None:
    """Where standard output knows ASCII only, tables still print and JSON stays JSON."""
    import json

    table = process("cache", "list", PYTHONIOENCODING="ascii")
    assert (table.returncode, table.stderr) == (0, "")
    lines = process("cache", "list", "--json", PYTHONIOENCODING="ascii").stdout.splitlines()
    assert json.loads(lines[1])["prompt"] == "夜の夢"


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_terminal_codes_only_in_a_terminal(filled: Path) -> None:
    """In a terminal the headings step back (dim, no colour); a pipe sees no code at all."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "reverie", "cache", "list"]
    environment = {**os.environ, "TERM": "xterm-256color"}
    subprocess.run(command, stdout=theirs, stderr=theirs, check=True, timeout=60, env=environment)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert shown.startswith("\x1b[2mid")
    assert "\x1b[3" not in shown
    assert "\x1b" not in process("cache", "list", TERM="xterm-256color").stdout


def test_shell_completion_knows_the_commands() -> None:
    """The shell asks for words after ``reverie cache p`` and gets them."""
    done = process(_REVERIE_COMPLETE="bash_complete", COMP_WORDS="reverie cache p", COMP_CWORD="2")
    assert done.stdout.split() == ["plain,pin", "plain,path"]


def test_the_page_of_the_commands_is_up_to_date() -> None:
    """docs/cli.md is what tools/cli_docs.py writes now."""
    tool = Path(__file__).parents[2] / "tools" / "cli_docs.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], timeout=60, check=False)
    assert done.returncode == 0, "run: python tools/cli_docs.py"
