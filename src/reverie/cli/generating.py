"""Options of a command that are arguments of its generator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import click

__all__ = ["generator_options", "spelled", "taken_out"]

Command = TypeVar("Command", bound=Callable[..., Any])


def _argument(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """``NAME=VALUE`` each, the value as JSON where it is, else as text; anything else is wrong usage."""
    found: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as steps=4")
        if name in found:
            raise click.BadParameter(f"{name} is given twice")
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found


_NODES = {
    "image": "takes the frame",
    "prompt": "takes the prompt",
    "negative": "takes the negative prompt",
    "seed": "takes the seed",
    "strength": "takes the strength, as denoise",
    "output": "saves the next frame",
}
_NAMED = (
    *("steps", "guidance", "negative_prompt", "device", "dtype", "offline", "workflow", "free"),
    *(f"{name}_node" for name in _NODES),
)

_OPTIONS = (
    click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Steps of a diffusion model."),
    click.option("--guidance", type=float, metavar="X", help="How closely it follows the prompt."),
    click.option("--negative-prompt", metavar="TEXT", help="What it is to keep away from."),
    click.option("--device", metavar="NAME", help="What it runs on: cuda, cuda:1, mps, cpu."),
    click.option(
        "--dtype",
        type=click.Choice(["float16", "bfloat16", "float32"]),
        help="In what numbers.",
    ),
    click.option(
        "--workflow",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="ComfyUI's workflow: its API export, or a picture that it saved.",
    ),
    *(
        click.option(f"--{name}-node", metavar="NODE", help=f"Its node that {takes}: id, title or class.")
        for name, takes in _NODES.items()
    ),
    click.option("--free", is_flag=True, default=None, help="Have ComfyUI give up its models at the end."),
    click.option("--offline", is_flag=True, default=None, help="Look for the model on this machine only."),
    click.option(
        "--option",
        "arguments",
        multiple=True,
        callback=_argument,
        metavar="NAME=VALUE",
        help="Any argument of the generator by its name, repeatable.",
    ),
)


def generator_options(command: Command) -> Command:
    """The options; what is given of them is found by `taken_out`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def taken_out(chosen: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `generator_options` out of a command's; gives the generator's arguments by name."""
    named = {name: chosen.pop(name) for name in _NAMED}
    found = {name: value for name, value in named.items() if value is not None}
    twice = sorted(found.keys() & chosen["arguments"].keys())
    if twice:
        raise click.UsageError(f"{twice[0]} is given twice: as --option and as an option of its own")
    return {**chosen.pop("arguments"), **found}


def spelled(arguments: Mapping[str, Any]) -> Iterator[str]:
    """The words of a command line that give a generator these arguments."""
    for name, value in arguments.items():
        text = value if isinstance(value, str) and not _is_json(value) else json.dumps(value)
        yield from ("--option", f"{name}={text}")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
