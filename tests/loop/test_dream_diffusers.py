"""`reverie dream` on a diffusers pipeline, made here: prompts, latents, going on, and no memory left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from test_resume import everything, stop_after

from diffusers_zoo import save_sd
from reverie.cli.main import cli
from reverie.errors import GenerationError, InputError
from reverie.loop.dream import DreamSettings, dream, resume
from reverie.loop.journal import read_journal

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small turbo model."""
    return save_sd(tmp_path_factory.mktemp("turbo"))


@pytest.fixture
def ask(tmp_path: Path, pipe: Path) -> Any:
    """``ask(name, **changes)``: settings of a short run."""

    def make(name: str, **changes: Any) -> DreamSettings:
        options = {"device": "cpu", **changes.pop("generator_options", {})}
        given = {"frames": 20, "generator": f"diffusers:{pipe}", "seed": 3, **changes}
        return DreamSettings(tmp_path / name, generator_options=options, **given)

    return make


@pytest.mark.parametrize("keep", [False, True])
def test_a_run_that_was_stopped_is_the_run_that_was_not(ask, keep):
    """Bit for bit, also where latents are gone on with from frame to frame and blended."""
    given = {"policy": "restless", "generator_options": {"keep_latents": keep}, "prompt": "a {rose|sea}"}
    whole = ask("whole", **given)
    dream(whole)
    asked = ask("stopped", **given)
    stops = iter((3, 2, 9, 4))
    result = dream(asked, stop_after(next(stops)))
    while not result.finished:
        result = resume(asked.out, on_frame=stop_after(next(stops, 1000)))
    assert everything(asked.out) == everything(whole.out)
    assert any(line["injected"] for line in everything(whole.out)["with"])
    assert (whole.out / "generator.npz").exists()


def test_out_of_memory_leaves_a_run_that_can_be_gone_on_with(ask, monkeypatch):
    """Everything up to there is kept; the rest is as if nothing had been."""
    whole = ask("whole")
    dream(whole)
    asked = ask("short")
    calls = []
    real = torch.nn.Module.__call__

    def call(self: Any, *what: Any, **how: Any) -> Any:
        if type(self).__name__ == "UNet2DConditionModel":
            calls.append(1)
            if len(calls) == 17:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, *what, **how)

    monkeypatch.setattr(torch.nn.Module, "__call__", call)
    with pytest.raises(GenerationError, match="a run goes on with --resume"):
        dream(asked)
    monkeypatch.undo()
    assert json.loads((asked.out / "run.json").read_bytes())["finished"] is False
    assert 0 < len(read_journal(asked.out / "with" / "journal.jsonl")) < 20
    assert resume(asked.out).finished
    assert everything(asked.out) == everything(whole.out)


def test_the_command(pipe, tmp_path, monkeypatch):
    """With prompts that take turns, shown and recorded, and what it runs on."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a rose\nthe __where__\n")
    Path("words").mkdir()
    Path("words", "where.txt").write_text("sea\n")
    options = ["--prompts", "prompts.txt", "--prompt-every", "2", "--wildcards", "words"]
    more = ["--device", "cpu", "--steps", "3", "--frames", "4", "--out", "run", "--no-report"]
    done = CliRunner().invoke(cli, ["dream", "--generator", f"diffusers:{pipe}", *options, *more])
    assert done.exit_code == 0, done.output
    lines = read_journal(tmp_path / "run" / "with" / "journal.jsonl")
    assert [line["prompt"] for line in lines] == ["a rose", "a rose", "the sea", "the sea"]
    record = json.loads(Path("run", "run.json").read_bytes())
    assert record["settings"]["generator_runs_on"].startswith("a turbo model on cpu in float32 (as asked), 3")
    assert "a turbo model on cpu" in done.stderr
    assert record["asked"]["generator_options"] == {"device": "cpu", "steps": 3}
    Path("prompts.txt").write_text("another\nthe __where__\n")
    with pytest.raises(InputError, match="the prompts are not those that"):
        resume(tmp_path / "run", 6)
