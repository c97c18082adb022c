"""`reverie dream` with a workflow on a ComfyUI server: the command, going on, and the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_resume import everything, stop_after

from comfy_graphs import img2img, with_inputs, without_model
from comfy_server import Comfy, serving
from reverie.cli.main import cli
from reverie.errors import GenerationError, InputError
from reverie.loop.dream import DreamSettings, dream, resume
from reverie.loop.journal import read_journal

pytestmark = pytest.mark.filterwarnings("ignore:unread_data:DeprecationWarning")


@pytest.fixture
def comfy() -> Iterator[Comfy]:
    """A server that was just started."""
    with serving(Comfy()) as server:
        yield server


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """The usual workflow as a file."""
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(img2img()))
    return file


@pytest.fixture
def ask(tmp_path: Path, comfy: Comfy, graph: Path) -> Any:
    """``ask(name, **changes)``: settings of a short run."""

    def make(name: str, **changes: Any) -> DreamSettings:
        options = {"workflow": str(graph), "reconnect": 1, **changes.pop("generator_options", {})}
        given = {"frames": 6, "size": 64, "generator": f"comfyui:{comfy.url}", "seed": 3, **changes}
        return DreamSettings(tmp_path / name, generator_options=options, **given)

    return make


def test_a_run_that_was_stopped_is_the_run_that_was_not(ask: Any) -> None:
    """Stopped twice, once more by a failing server: bit for bit the same."""
    whole, asked = ask("whole"), ask("stopped")
    dream(whole)
    result = dream(asked, stop_after(3))
    while not result.finished:
        result = resume(asked.out, on_frame=stop_after(4))
    assert everything(asked.out) == everything(whole.out)


def test_a_frame_that_fails_leaves_a_run_that_can_be_gone_on_with(ask: Any, comfy: Comfy) -> None:
    """The error says how; nothing is hanging on the server."""
    whole, asked = ask("whole"), ask("broken")
    dream(whole)
    comfy.faults.node = ("7", "RuntimeError", "no")
    with pytest.raises(GenerationError, match="RuntimeError: no"):
        dream(asked)
    assert comfy.sockets == {}
    assert resume(asked.out).finished
    assert everything(asked.out) == everything(whole.out)


def test_another_workflow_is_not_gone_on_with(ask: Any, graph: Path) -> None:
    """Its frames would be of another kind; the same one in a file written anew is fine."""
    asked = ask("run")
    dream(asked, stop_after(3))
    graph.write_text(json.dumps(with_inputs(img2img(), "6", cfg=1.0)))
    with pytest.raises(InputError, match=r"is set up otherwise than when .*run was begun"):
        resume(asked.out)
    graph.write_text(json.dumps(img2img(), indent=4))
    assert resume(asked.out).finished


def test_the_command(comfy: Comfy, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes by name, prompts sent, and the models given up at the end."""
    monkeypatch.chdir(tmp_path)
    options = ["--workflow", str(graph), "--seed-node", "KSampler", "--output-node", "8", "--free"]
    more = ["--prompt", "a fox", "--size", "64", "--frames", "3", "--out", "run", "--no-report"]
    done = CliRunner().invoke(cli, ["dream", "--generator", f"comfyui:{comfy.url}", *options, *more])
    assert done.exit_code == 0, done.output
    assert "frames by image in node 2 'Load Image' (LoadImage), prompt in node 4" in done.stderr
    assert len(read_journal(tmp_path / "run" / "with" / "journal.jsonl")) == 3
    sent = [content["prompt"] for _, path, content in comfy.asked if path == "/prompt"]
    assert {each["4"]["inputs"]["text"] for each in sent} == {"a fox"}
    assert len(sent) == 6
    assert comfy.paths()[-1] == "POST /free"
    repeated = json.loads(Path("run", "run.json").read_bytes())["command"]
    assert "--option seed_node=KSampler" in repeated
    assert "--option free=true" in repeated


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "name the workflow"),
        (["--workflow", "graph.json", "--seed-node", "99"], "no node '99' for the seed"),
        (["--workflow", "none.json"], "does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    comfy: Comfy, graph: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    """Before anything is sent."""
    monkeypatch.chdir(graph.parent)
    done = CliRunner().invoke(cli, ["dream", "--generator", f"comfyui:{comfy.url}", "--out", "run", *options])
    assert done.exit_code != 0
    assert says in done.output
    assert comfy.asked == []


def test_a_prompt_without_a_place_is_refused(
    comfy: Comfy, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never passed over in silence."""
    monkeypatch.chdir(graph.parent)
    graph.write_text(json.dumps(without_model()))
    options = ["--workflow", "graph.json", "--prompt", "a fox", "--size", "64", "--out", "run"]
    done = CliRunner().invoke(cli, ["dream", "--generator", f"comfyui:{comfy.url}", *options])
    assert done.exit_code == 1
    assert "no node of the workflow was found that takes the prompt" in done.output
