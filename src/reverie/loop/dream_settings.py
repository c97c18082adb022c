"""What a run is asked to do, and whether it can begin with that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from reverie import registry
from reverie.checks import check_seed, check_strength, check_whole
from reverie.errors import InputError
from reverie.loop.prompts import PromptSchedule, read_prompts, read_wildcards
from reverie.loop.recolour import check_correction
from reverie.storage import storage_error

__all__ = ["DreamSettings", "asked", "check_parts", "check_settings", "prompts_of"]

_PROMPT_HELD = 60  # frames


@dataclass(frozen=True, slots=True)
class DreamSettings:
    """What `dream` does.

    Attributes:
        out: The run folder; must be empty or not there yet.
        frames: Frames of each arm, at least 1.
        strength: 0 keeps the input of a frame, 1 forgets it.
        seed: Seed of everything random, from 0 to 2^63 - 1.
        policy: Registered injection policy of the arm with memory.
        seeds: Folder of seed pictures; None takes the built-in ones.
        generator: Registered generator.
        generator_options: Its own arguments by name, as JSON can hold them.
        encoder: Registered encoder.
        model_dir: The encoder's model, where it takes one; None for the usual places.
        threads: Processor threads of the encoder, where it takes them; None for its own choice.
        prompt: Prompt of every frame; may hold choices and wildcards (`reverie.loop.prompts`).
        prompts: A file of prompts in its place, one a line, that take turns.
        prompt_every: Frames that a prompt is held for; what is drawn in it is drawn anew when they are over.
            None holds a single prompt for ever, and each of several for 60 frames.
        wildcards: A folder of text files with what wildcards may be.
        size: Side of the frames in pixels; None for what the generator makes unless told otherwise.
        remember_seeds: Put the seed pictures into memory, pinned, before the first frame; None for what
            suits the policy.
        towards: A text, or the path of a picture, that the loop is to tend to, for policies that ask.
        colour: What is done about colour drift in the arm with memory: ``off``, ``soft`` or ``hard``. Both
            arms are measured against the pinned seed pictures, or the start where none are remembered.
        live: A folder for displays, which show the arm with memory (`reverie.loop.live`); None for none.
        command: The command line that was typed, for the record.
    """

    out: Path
    frames: int = 300
    strength: float = 0.5
    seed: int = 0
    policy: str = "wander"
    seeds: str | os.PathLike[str] | None = None
    generator: str = "patches"
    generator_options: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = "descriptor"
    model_dir: str | None = None
    threads: int | None = None
    prompt: str = ""
    prompts: str | os.PathLike[str] | None = None
    prompt_every: int | None = None
    wildcards: str | os.PathLike[str] | None = None
    size: int | None = None
    remember_seeds: bool | None = None
    towards: str = ""
    colour: str = "off"
    live: str | os.PathLike[str] | None = None
    command: str = ""


def asked(record: Mapping[str, Any], folder: Path) -> DreamSettings:
    """What a run was asked to do, by its ``run.json``; raises InputError when that is of another version."""
    names = {each.name for each in fields(DreamSettings)} - {"out"}
    given = record.get("asked")
    if not isinstance(given, Mapping) or not given.keys() <= names:
        raise InputError(f"{folder} cannot be gone on with: reverie {record.get('reverie')} wrote it")
    return DreamSettings(**given, out=folder)


def check_settings(settings: DreamSettings) -> None:
    """Whether `dream` can begin with these, as far as can be told without loading or making anything.

    Raises:
        InputError: A setting is out of range, or the folder is not empty.
        UnknownNameError: No such policy, generator, encoder or colour correction.
        MissingDependencyError: The policy is not installed.
        StorageError: The folder cannot be looked into.
    """
    check_parts(settings)
    _check_empty(settings.out)


def check_parts(settings: DreamSettings) -> None:
    """As `check_settings`, of a run whose folder is there."""
    check_whole("frames", settings.frames, 1)
    check_strength(settings.strength)
    check_seed(settings.seed)
    if settings.size is not None:
        check_whole("size", settings.size, 1)
    registry.load("policies", settings.policy)
    registry.check("generators", settings.generator)
    registry.check("encoders", settings.encoder)
    check_correction(settings.colour)
    prompts_of(settings)


def prompts_of(settings: DreamSettings) -> PromptSchedule:
    """Which prompt each frame has."""
    if settings.prompt and settings.prompts is not None:
        raise InputError("a prompt and a file of prompts: give one of them")
    prompts = [settings.prompt] if settings.prompts is None else read_prompts(settings.prompts)
    every = settings.prompt_every
    if every is None and len(prompts) > 1:
        every = _PROMPT_HELD
    wildcards = {} if settings.wildcards is None else read_wildcards(settings.wildcards)
    return PromptSchedule(prompts, every, settings.seed, wildcards)


def _check_empty(out: Path) -> None:
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as exc:
        raise storage_error(f"look into the run folder {out}", exc) from exc
    if taken:
        raise InputError(
            f"{out} is not empty: choose another folder, or go on with the run in it with --resume; "
            "nothing in it was changed"
        )
