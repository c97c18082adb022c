"""What `reverie dream` does around the library's dream: settings, progress, summary."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cli.downloading import downloads
from reverie.cli.generating import spelled, taken_out
from reverie.cli.output import Column, near, note, plain, print_table, say, show
from reverie.cli.params import given
from reverie.cli.progress import progress
from reverie.loop.dream import DreamResult, DreamSettings, check_settings, resume
from reverie.loop.dream import dream as run_dream
from reverie.protocols import Chosen, Generator
from reverie.report.colours import colour_lines
from reverie.report.run import Run, load_run
from reverie.report.verdict import key_figures, verdict
from reverie.report.write import write_report

__all__ = ["command_line", "finish", "free_folder", "go_on", "run", "tell_files"]

_OTHERWISE = {"arguments": "option"}  # options that are called otherwise than their value
_MODEL = ("model_dir", "threads")  # what the encoder is made with

_WORTH_A_LINE = {
    ".html": "open it in a browser",
    ".webp": "both loops, side by side",
    ".gif": "both loops, side by side",
    ".mp4": "the same as a film",
    ".png": "each loop at a glance",
}


def run(options: Mapping[str, Any]) -> DreamResult:
    """Dream with these options, showing how it goes; raises as `reverie.loop.dream.dream`."""
    chosen = dict(options)
    chosen["generator_options"] = taken_out(chosen)
    out = chosen["out"] or free_folder(Path("dream"))
    settings = DreamSettings(**{**chosen, "out": out, "command": command_line(chosen)})
    check_settings(settings)  # before a model is fetched and a word is said
    matcher = AestheticMatcher(settings.encoder, **given({name: chosen[name] for name in _MODEL}))
    with downloads():
        matcher.load()
    note(f"dreaming into {near(out)} (Ctrl-C stops and keeps what there is)")
    with progress() as on_frame:
        return run_dream(settings, on_frame, matcher.encoder, _tell_choice)


def go_on(folder: Path, typed: Mapping[str, Any]) -> DreamResult:
    """Go on with a run; raises as `resume` of the library, and UsageError for what is settled."""
    settled = sorted(typed.keys() - {"resume", "frames", "no_report"})
    if settled:
        names = ", ".join(f"--{_OTHERWISE.get(name, name).replace('_', '-')}" for name in settled)
        raise click.UsageError(f"{names}: a run that is gone on with keeps what it was begun with")
    note(f"going on in {near(folder)} (Ctrl-C stops and keeps what there is)")
    with downloads(), progress() as on_frame:
        return resume(folder, typed.get("frames"), on_frame, on_ready=_tell_choice)


def _tell_choice(generator: Generator) -> None:
    """What a generator runs on, where there is a choice."""
    if isinstance(generator, Chosen):
        note(f"frames by {generator.choice}")


def free_folder(wanted: Path) -> Path:
    """``wanted``, or ``wanted-2``, ``wanted-3``...: the first that is not there or empty."""
    folder, number = wanted, 1
    while folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def command_line(chosen: Mapping[str, Any]) -> str:
    """The command that repeats the run, options in the order of the settings; its folder is left open."""
    words = ["reverie", "dream"]
    for name in (field.name for field in fields(DreamSettings) if field.name != "out"):
        value, option = chosen.get(name), f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            words += spelled(value)
        elif isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif value is not None and value != "":
            words += [option, str(value)]
    return shlex.join(words)


def finish(result: DreamResult, *, with_report: bool) -> None:
    """Write the report, say what came out, and where to look."""
    if not result.finished:
        note(f"stopped early; go on with: reverie dream --resume {near(result.folder)}")
    written: list[Path] = []
    if with_report:
        written = _write_report(result.folder)
    run = load_run(result.folder)
    _summary(run)
    tell_files(result.folder, written)
    if run.settings.get("policy") == "spec" and verdict(run).kind in ("same", "worse"):
        say("to see memory change a loop: reverie dream --policy wander")


def _write_report(folder: Path) -> list[Path]:
    note("writing the report")
    try:
        return write_report(folder)
    except KeyboardInterrupt:
        note(f"the frames are in {near(folder)}; write the report with: reverie report {near(folder)}")
        raise


def _summary(run: Run) -> None:
    """The figures of the arms side by side, and what they say."""
    judged = verdict(run)
    rows = [
        [measure.label, *(measure.show(value) for value in values)] for measure, values in key_figures(run)
    ]
    if rows:
        say()
        print_table(
            [Column("", flexible=True), *(Column(arm.title.lower(), right=True) for arm in run.arms)], rows
        )
    lines = [plain(line) for line in colour_lines(run)]
    show("", " ".join([judged.headline, *judged.notes]), *(["", *lines] if lines else []), "")


def tell_files(folder: Path, written: list[Path]) -> None:
    """Where to look, the page first."""
    if not written:
        say(f"frames and journal: {near(folder)}")
        return
    known = [path for path in written if path.suffix in _WORTH_A_LINE]
    ordered = sorted(known, key=lambda path: list(_WORTH_A_LINE).index(path.suffix))
    width = max(len(near(path)) for path in ordered)
    say("look at")
    for path in ordered:
        say(f"  {near(path):<{width}}  {_WORTH_A_LINE[path.suffix]}")
