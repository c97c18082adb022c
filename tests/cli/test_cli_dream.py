"""`reverie dream` and `reverie report`: options, progress, summary, interruption."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from cli_runs import Run, widest
from rich.console import Console

from reverie.cli.dream import dream
from reverie.cli.dreaming import command_line, free_folder
from reverie.cli.progress import Board
from reverie.encoders.clip import ClipEncoder
from reverie.errors import InputError
from reverie.generators.patches import MAX_SIZE, PatchGenerator
from reverie.loop.dream import ArmDone, DreamResult, DreamSettings
from reverie.loop.recolour import Correction
from reverie.protocols import Encoder, Generator

DASH = "\N{EN DASH}"
TINY = ("--frames", "3", "--size", "32")


def done(arm: str = "with", frame: int = 1, frames: int = 300, **changes: Any) -> ArmDone:
    """A finished frame."""
    values: dict[str, Any] = {
        "title": f"{arm.capitalize()} memory",
        "measures": {"effective_images": 6.23, "pairwise": None},
        "injected": False,
        "reason": "",
        "times_ms": {"generate": 40.0},
    }
    return ArmDone(arm=arm, frame=frame, frames=frames, **{**values, **changes})


class FakeDream:
    """Stands in for the library: notes its settings, reports frames, writes a bare run."""

    def __init__(self, *, finished: bool = True, error: Exception | None = None) -> None:
        self.finished = finished
        self.error = error
        self.settings: DreamSettings | None = None
        self.encoder: Encoder | None = None

    def __call__(
        self,
        settings: DreamSettings,
        on_frame: Callable[[ArmDone], None] | None = None,
        encoder: Encoder | None = None,
        on_ready: Callable[[Generator], None] | None = None,
    ) -> DreamResult:
        self.settings, self.encoder = settings, encoder
        if self.error:
            raise self.error
        assert on_frame is not None
        for frame in range(1, settings.frames + 1):
            for arm in ("without", "with"):
                on_frame(done(arm, frame, settings.frames, injected=arm == "with" and frame % 15 == 0))
        settings.out.mkdir(parents=True)
        arms = [{"name": "with", "title": "With memory", "policy": "spec", "summary": {"motifs": 3.0}}]
        run = {"version": 1, "finished": self.finished, "arms": arms}
        (settings.out / "run.json").write_text(json.dumps(run))
        return DreamResult(settings.out, self.finished, arms)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDream:
    """The library's dream, replaced."""
    return use(FakeDream(), monkeypatch)


def use(dream: FakeDream, monkeypatch: pytest.MonkeyPatch) -> FakeDream:
    """Put a dream in the library's place."""
    monkeypatch.setattr("reverie.cli.dreaming.run_dream", dream)
    return dream


# ------------------------------------------------------------------------------------ options


def test_the_defaults_of_the_contract(fake: FakeDream, reverie: Run) -> None:
    """Without options: 300 frames, wander, strength .5, seed 0, ./dream."""
    assert reverie("dream", "--no-report").exit_code == 0
    assert fake.settings == DreamSettings(
        out=Path("dream"),
        frames=300,
        strength=0.5,
        seed=0,
        policy="wander",
        seeds=None,
        generator="patches",
        encoder="descriptor",
        prompt="",
        size=None,
        command="reverie dream --frames 300 --strength 0.5 --seed 0 --policy wander --generator patches "
        "--encoder descriptor --colour off",
    )


def test_every_option_reaches_the_library(
    fake: FakeDream, own_folder: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given is what is dreamt, and the command that repeats it is kept."""
    monkeypatch.setattr("reverie.encoders.clip.ClipEncoder.load", lambda _self: None)
    monkeypatch.setattr("reverie.cli.dreaming.check_settings", lambda _settings: None)
    options = [
        "--frames",
        "2",
        "--seeds",
        "my pictures",
        "--policy",
        "random",
        "--strength",
        "1",
        "--seed",
        "7",
    ]
    more = ["--out", "runs/one", "--prompt", "夜 [b]", "--size", "64", "--generator", "g"]
    more += ["--encoder", "clip-vit-b32:openvino-fp32", "--model-dir", "my clip", "--threads", "2"]
    more += ["--steps", "3", "--negative-prompt", "dull", "--device", "cuda:1", "--offline"]
    more += ["--prompt-every", "5", "--wildcards", "words", "--live", "screen", "--colour", "soft"]
    more += ["--option", "pca=4", "--option", "look=a b", "--option", 'id="1"']
    assert reverie("dream", *options, *more, "--no-report").exit_code == 0
    assert fake.settings == DreamSettings(
        out=Path("runs/one"),
        frames=2,
        strength=1.0,
        seed=7,
        policy="random",
        seeds=Path("my pictures"),
        generator="g",
        generator_options={
            "pca": 4,
            "look": "a b",
            "id": "1",
            "steps": 3,
            "negative_prompt": "dull",
            "device": "cuda:1",
            "offline": True,
        },
        encoder="clip-vit-b32:openvino-fp32",
        model_dir="my clip",
        threads=2,
        prompt="夜 [b]",
        prompt_every=5,
        wildcards=Path("words"),
        size=64,
        colour="soft",
        live=Path("screen"),
        command="reverie dream --frames 2 --strength 1.0 --seed 7 --policy random --seeds 'my pictures' "
        "--generator g --option pca=4 --option 'look=a b' --option 'id=\"1\"' --option steps=3 "
        "--option negative_prompt=dull --option device=cuda:1 --option offline=true "
        "--encoder clip-vit-b32:openvino-fp32 --model-dir 'my clip' --threads 2 "
        "--prompt '夜 [b]' --prompt-every 5 --wildcards words --size 64 --colour soft --live screen",
    )
    assert isinstance(fake.encoder, ClipEncoder)


@pytest.mark.parametrize("wrong", ["steps", "=4", "a b=4"])
def test_an_option_of_the_generator_has_a_name_and_a_value(reverie: Run, wrong: str) -> None:
    """Wrong usage, with an example; so is a name that comes twice."""
    result = reverie("dream", "--option", wrong)
    assert result.exit_code == 2
    assert f"{wrong!r} is not NAME=VALUE, such as steps=4" in result.stderr
    twice = reverie("dream", "--option", "steps=4", "--option", "steps=5")
    assert (twice.exit_code, "steps is given twice" in twice.stderr) == (2, True)
    both = reverie("dream", "--option", "steps=4", "--steps", "5")
    assert (both.exit_code, "steps is given twice: as --option" in both.stderr) == (2, True)


def test_an_option_that_the_generator_has_not_is_named(own_folder: Path, reverie: Run) -> None:
    """Before anything is made."""
    result = reverie("dream", *TINY, "--option", "stepps=4", "--out", "run")
    assert result.exit_code == 1
    assert "the generator 'patches' cannot be made like that" in result.stderr
    assert "stepps" in result.stderr
    assert not Path("run").exists()


def test_colour_offers_what_there_is(reverie: Run) -> None:
    """The names of the library, and a wrong one is answered with them."""
    result = reverie("dream", "--colour", "strong")
    assert result.exit_code == 2
    assert "'strong' is not one of " + ", ".join(map(repr, get_args(Correction))) in result.stderr


def test_command_line_leaves_the_folder_open() -> None:
    """The kept command names no folder, and nothing that was not chosen."""
    assert (
        command_line({"frames": 3, "out": Path("x"), "prompt": "", "seeds": None})
        == "reverie dream --frames 3"
    )


def test_command_line_writes_flags_as_flags() -> None:
    """A flag stands alone, with dashes; one that was not given is left out."""
    assert command_line({"frames": 3, "remember_seeds": True}) == "reverie dream --frames 3 --remember-seeds"
    assert command_line({"frames": 3, "remember_seeds": False}).endswith("--frames 3 --no-remember-seeds")
    assert command_line({"frames": 3, "remember_seeds": None}) == "reverie dream --frames 3"


def test_the_default_folder_is_a_free_one(own_folder: Path) -> None:
    """./dream, then ./dream-2, ...; an empty one is free."""
    wanted = Path("dream")
    assert free_folder(wanted) == wanted
    wanted.mkdir()
    assert free_folder(wanted) == wanted
    (wanted / "run.json").write_text("{}")
    assert free_folder(wanted) == Path("dream-2")
    Path("dream-2").write_text("a file")
    assert free_folder(wanted) == Path("dream-3")


def test_a_given_folder_that_is_not_empty_is_refused(own_folder: Path, reverie: Run) -> None:
    """--out with something in it: one line, exit code 1, nothing touched."""
    (own_folder / "mine").mkdir()
    (own_folder / "mine" / "notes.txt").write_text("mine")
    result = reverie("dream", *TINY, "--out", "mine")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("reverie: mine is not empty")
    assert [path.name for path in (own_folder / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "options",
    [
        ("--frames", "0"),
        ("--strength", "1.5"),
        ("--strength", "nan"),
        ("--seed", "-1"),
        ("--seed", "9" * 30),
        ("--size", "x"),
        ("--size", "1"),
        ("--size", "100000"),
        ("--nope",),
    ],
)
def test_wrong_usage(options: tuple[str, ...], own_folder: Path, reverie: Run) -> None:
    """A value out of range is wrong usage: exit code 2, one line, no folder."""
    result = reverie("dream", *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("options", [("--policy", "nope"), ("--generator", "nope"), ("--encoder", "nope")])
def test_a_part_that_is_not_there(options: tuple[str, str], reverie: Run) -> None:
    """The error names the parts there are, and is the first that is said."""
    result = reverie("dream", *TINY, *options)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "'nope'; there are: " in result.stderr


def test_the_sizes_are_those_of_the_generator() -> None:
    """What --size takes is what `patches` makes; one pixel more or less is refused by it as well."""
    size = next(param for param in dream.params if param.name == "size").type
    assert isinstance(size, click.IntRange)
    assert (size.min, size.max) == (11, MAX_SIZE)
    for side in (size.min - 1, MAX_SIZE + 1):
        with pytest.raises(InputError, match="size must be"):
            PatchGenerator(size=side)


def test_an_error_while_dreaming(reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's error is the last line."""
    use(FakeDream(error=InputError("no picture in that folder")), monkeypatch)
    result = reverie("dream")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "reverie: no picture in that folder"


# ------------------------------------------------------------------------------------ progress


def test_quiet_progress_outside_a_terminal(fake: FakeDream, reverie: Run) -> None:
    """Not in a terminal: a line every tenth of each arm, on standard error, without codes."""
    result = reverie("dream", "--frames", "40", "--no-report")
    lines = result.stderr.splitlines()
    assert lines[0] == "dreaming into ./dream (Ctrl-C stops and keeps what there is)"
    assert len(lines) == 1 + 20
    assert lines[2].startswith("with memory     4/40 frames, ")
    assert lines[-1].endswith("6.2 effective images, similarity \N{EN DASH}, 2 injected")
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("frames", [1, 7, 10, 99])
def test_the_last_frame_always_has_its_line(frames: int, fake: FakeDream, reverie: Run) -> None:
    """However few frames: at most ten lines an arm, the last one for the last frame."""
    lines = reverie("dream", "--frames", frames, "--no-report").stderr.splitlines()[1:]
    mine = [line for line in lines if line.startswith("with memory")]
    assert len(mine) == min(frames, 10)
    assert f" {frames}/{frames} frames" in mine[-1]


def screen(board: Board, **settings: Any) -> str:
    """What a terminal of 80 columns shows of a board."""
    console = Console(file=StringIO(), force_terminal=True, width=80, **settings)
    console.print(board)
    shown = console.file
    assert isinstance(shown, StringIO)
    return shown.getvalue()


def test_the_board_has_a_line_an_arm() -> None:
    """Bar, frame of frames, frames a second, time left, effective images, similarity, injections."""
    now = [100.0]
    board = Board(clock=lambda: now[0])
    for frame in range(1, 31):
        board.take(done("without", frame))
        board.take(done("with", frame, injected=frame % 15 == 0, measures={"pairwise": 0.7134}))
        now[0] += 0.1
    heading, first, second = screen(board, color_system=None).splitlines()
    assert heading.split() == ["frame", "a", "sec", "left", "images", "alike", "inj."]
    assert first.split()[:2] == ["without", "memory"]
    assert first.split()[-6:] == ["30/300", "10.0", "0:27", "6.2", DASH, "0"]
    assert second.split()[-6:] == ["30/300", "10.0", "0:27", DASH, "0.71", "2"]
    assert widest(f"{heading}\n{first}\n{second}") <= 80


def test_the_board_after_one_frame_has_no_rate() -> None:
    """One frame is no measure of speed: dashes, not a guess."""
    board = Board(clock=lambda: 5.0)
    board.take(done("with", 1, 100_000, title="A title that is far too long for its column"))
    (_, line) = screen(board, color_system=None).splitlines()
    assert line.split()[-6:] == ["1/100000", DASH, DASH, "6.2", DASH, "0"]
    assert widest(line) <= 80


def test_long_times() -> None:
    """Hours are shown once there are some."""
    now = [0.0]
    board = Board(clock=lambda: now[0])
    board.take(done("with", 1, 10_000))
    now[0] = 1.0
    board.take(done("with", 2, 10_000))
    assert "  2:46:38  " in screen(board, color_system=None)


def test_no_color_leaves_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR takes the colours out of the progress bar."""
    board = Board(clock=lambda: 0.0)
    board.take(done("with", 100))
    coloured = re.compile(r"\x1b\[(?:[34]\d|9\d|10\d)[;\d]*m")
    assert coloured.search(screen(board, color_system="truecolor"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured.search(screen(board, color_system="truecolor"))


# ------------------------------------------------------------------------------------ for real


def test_a_dream_for_real(own_folder: Path, reverie: Run) -> None:
    """Three frames of both arms, all files, a summary of both side by side, and where to look."""
    result = reverie("dream", *TINY, "--out", "run")
    assert result.exit_code == 0
    for name in ("run.json", "report.html", "contact_sheet.png", "animation.webp", "with/frames/000003.png"):
        assert (own_folder / "run" / name).is_file(), name
    lines = result.stdout.splitlines()
    assert widest(result.stdout) <= 80
    assert lines[1].split() == ["without", "memory", "with", "memory"]
    assert any(line.startswith("Injections ") for line in lines)
    assert any(line.startswith("Without memory: colours ") for line in lines)
    assert "; no correction was on." in " ".join(lines)
    assert lines[lines.index("look at") + 1].startswith("  run/report.html ")
    kept = json.loads((own_folder / "run" / "run.json").read_text())["command"]
    assert kept.startswith("reverie dream --frames 3 --strength 0.5 --seed 0 --policy wander ")


def test_a_report_again(own_folder: Path, reverie: Run) -> None:
    """`report` writes what is missing; another animation on request; a folder that is no run is an error."""
    lines = reverie("dream", *TINY, "--no-report", "--policy", "spec").stdout.splitlines()
    assert lines[-2] == "frames and journal: ./dream"
    assert lines[-1].endswith("reverie dream --policy wander")  # spec changed nothing
    assert not (own_folder / "dream" / "report.html").exists()
    result = reverie("report", "dream", "--animation", "gif")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "look at")
    assert (own_folder / "dream" / "report.html").is_file()
    assert (own_folder / "dream" / "animation.gif").is_file()
    assert reverie("report", "dream", "--animation", "flip").exit_code == 1
    wrong = reverie("report", own_folder)
    assert (wrong.exit_code, wrong.stdout, wrong.stderr.count("\n")) == (1, "", 1)


def test_stopped_early(reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dream that was interrupted says so, shows what there is, and exits with 130."""
    use(FakeDream(finished=False), monkeypatch)
    result = reverie("dream", "--frames", "2", "--no-report")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "stopped early; go on with: reverie dream --resume ./dream"
    assert "Motifs" in result.stdout


def test_a_stopped_run_is_gone_on_with(own_folder: Path, reverie: Run) -> None:
    """`--resume` makes a run longer, keeps what it was begun with, and refuses to change that."""
    assert reverie("dream", *TINY, "--no-report", "--out", "run").exit_code == 0
    result = reverie("dream", "--resume", "run", "--frames", "5", "--no-report")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        0,
        "going on in ./run (Ctrl-C stops and keeps what there is)",
    )
    assert (own_folder / "run" / "with" / "frames" / "000005.png").is_file()
    refused = reverie("dream", "--resume", "run", "--strength", "0.3", "--seed", "1")
    assert refused.exit_code == 2
    assert "--seed, --strength: a run that is gone on with keeps what it was begun with" in refused.stderr
    missing = reverie("dream", "--resume", "nowhere")
    assert (missing.exit_code, "no run folder" in missing.stderr.splitlines()[-1]) == (1, True)


@pytest.mark.usefixtures("fake")
def test_an_interrupted_report_says_how_to_go_on(reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the report is written: the frames are safe, and the command for later is named."""

    def interrupted(folder: Path) -> list[Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr("reverie.cli.dreaming.write_report", interrupted)
    result = reverie("dream", "--frames", "1")
    assert result.exit_code == 130
    assert "write the report with: reverie report ./dream\n" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent differently there")
def test_ctrl_c_for_real(own_folder: Path) -> None:
    """SIGINT in the middle: exit code 130, a report of what there is, no traceback."""
    command = [sys.executable, "-m", "reverie", "dream", "--frames", "2000", "--size", "32", "--out", "run"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=own_folder
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("dreaming into ./run")
        while not (own_folder / "run" / "with" / "frames" / "000002.png").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "run/report.html" in output
    assert json.loads((own_folder / "run" / "run.json").read_text())["finished"] is False
