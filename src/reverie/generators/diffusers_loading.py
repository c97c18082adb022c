"""Where a pipeline of diffusers runs, and how it is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from transformers.utils import logging as transformers_logging

from reverie.errors import InputError, ModelCorruptError, ModelNotFoundError

_LOGGING: Any = transformers_logging
_BEFORE = _LOGGING.get_verbosity()
_LOGGING.set_verbosity_error()  # it says of every processor that torchvision is not there
try:
    from diffusers import AutoPipelineForImage2Image
    from diffusers.utils import logging as diffusers_logging
finally:
    _LOGGING.set_verbosity(_BEFORE)

__all__ = ["EXAMPLE", "Dtype", "dtype_name", "load_pipeline", "placed", "quiet"]

Dtype: TypeAlias = Literal["float32", "float16", "bfloat16"]
"""In what numbers a pipeline works."""

EXAMPLE = "such as diffusers:stabilityai/sd-turbo or diffusers:./my-model"
"""For messages."""


def dtype_name(dtype: torch.dtype) -> str:
    """``float16`` and so on."""
    return str(dtype).removeprefix("torch.")


def placed(device: str | None, dtype: Dtype | None) -> tuple[str, torch.dtype, str]:
    """Where it runs, in what numbers, and why."""
    if device is None:
        there = torch.cuda.is_available(), torch.backends.mps.is_available()
        device = "cuda" if there[0] else "mps" if there[1] else "cpu"
        why = "the GPU of this machine" if device != "cpu" else "torch sees no GPU"
    else:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, ValueError, NotImplementedError) as exc:
            raise InputError(f"torch cannot use the device {device!r} here: {exc}") from exc
        why = "as asked"
    if dtype is None:
        dtype = "float32" if device == "cpu" else "float16"
    return device, getattr(torch, dtype), why


def load_pipeline(model: str, dtype: torch.dtype, *, offline: bool, safety_checker: bool) -> Any:
    """The img2img pipeline of a repository of the Hub, or of a folder.

    Raises:
        ModelNotFoundError: It is not on this machine, and cannot be fetched.
        ModelCorruptError: It is no img2img pipeline, or a file of it is damaged.
    """
    folder = Path(model).expanduser()
    local = folder.is_dir() or model.startswith((".", "/", "~", "\\"))
    if local:
        if not folder.is_dir():
            raise ModelNotFoundError(f"there is no folder {model!r}: name one, {EXAMPLE}")
        if not (folder / "model_index.json").is_file():
            raise ModelCorruptError(
                f"{str(folder)!r} is no pipeline of diffusers: there is no model_index.json in it; make one "
                "with pipe.save_pretrained, or name a repository of the Hub"
            )
    where = str(folder) if local else model
    options: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": offline or local}
    if not safety_checker:
        options |= {"safety_checker": None, "requires_safety_checker": False}

    from_pretrained: Any = AutoPipelineForImage2Image.from_pretrained

    def load(**more: Any) -> Any:
        return from_pretrained(where, **options, **more)

    with quiet(), _no_bars():
        pipe = _smaller_first(load, dtype)(where, local)
        pipe.set_progress_bar_config(disable=True)
    return pipe


def _smaller_first(load: Callable[..., Any], dtype: torch.dtype) -> Callable[[str, bool], Any]:
    """Load files of half the size where the repository has them, else those that there are."""

    def found(where: str, local: bool) -> Any:
        if dtype == torch.float16:
            try:
                return load(variant="fp16")
            except (OSError, ValueError):
                pass  # there are none, or something is wrong: that is said of the usual ones
        try:
            return load()
        except OSError as exc:
            raise _not_there(where, local, exc) from exc
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as exc:
            raise ModelCorruptError(
                f"{where!r} cannot be loaded as an img2img pipeline of diffusers: {exc}"
            ) from exc

    return found


def _not_there(where: str, local: bool, exc: OSError) -> ModelNotFoundError | ModelCorruptError:
    if local:
        return ModelCorruptError(f"a file of the pipeline in {where!r} is missing or damaged: {exc}")
    return ModelNotFoundError(
        f"the model {where!r} is not on this machine and cannot be fetched now: {_first_line(exc)}. Where "
        f"there is a network: hf download {where}; or name a folder, {EXAMPLE}"
    )


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(exc).__name__


@contextmanager
def _no_bars() -> Iterator[None]:
    """No bars of parts that are loaded, and no warnings that nobody can do anything about."""
    loggers: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    for each in loggers:
        each.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each in loggers:
            each.enable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """Errors only of what both libraries have to say."""
    loggers: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    before = [each.get_verbosity() for each in loggers]
    for each in loggers:
        each.set_verbosity_error()
    try:
        yield
    finally:
        for each, verbosity in zip(loggers, before, strict=True):
            each.set_verbosity(verbosity)
