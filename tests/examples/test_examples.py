"""The examples run, with stand-ins for the models and programs that they are about."""

import base64
import http.server
import importlib.util
import io
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from reverie import CacheManager, ImageMemory
from reverie.registry import create

FOLDER = Path(__file__).parents[2] / "examples"
SEEDS = create("generators", "patches", size=48).seeds


def example(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def denoised(frame, seed):
    """What stands for a model: half way to a picture that the seed chooses, ``(h, w, 3)`` uint8."""
    return (frame // 2 + SEEDS[seed // 12 % len(SEEDS)] // 2).astype(np.uint8)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Examples write where they are started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(folder):
    """Entries of a memory."""
    with CacheManager(folder) as cache:
        return cache.get_all()


def test_every_example_is_tested():
    """Each has a test of its name here."""
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert names == set(re.findall(r'example\("(\w+)"\)', Path(__file__).read_text()))
    assert names


def test_bare_loop(own_folder):
    """As it is started by hand."""
    done = subprocess.run(
        [sys.executable, FOLDER / "bare_loop.py", "60"], capture_output=True, text=True, check=True
    )
    assert "60  " in done.stdout
    assert re.search(r"\d+ of 60 frames were made of memories", done.stdout)
    assert len(kept("bare-loop")) >= 10
    assert example("bare_loop").img2img(np.zeros((96, 96, 3), np.uint8), 1).shape == (96, 96, 3)


class Pipe:
    """A diffusers pipeline, as far as the example knows it."""

    def __init__(self):
        self.calls = []

    def set_progress_bar_config(self, *, disable):
        """Quiet."""
        assert disable

    def __call__(self, prompt, *, image, generator, output_type, **settings):
        """A batch of one, channels first, 0 to 1."""
        assert output_type == "pt"
        self.calls.append((prompt, image.clone(), generator.initial_seed(), settings))
        frame = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
        made = denoised(frame, generator.initial_seed())
        return SimpleNamespace(images=torch.from_numpy(made).permute(2, 0, 1)[None] / 255)


def test_diffusers_loop(own_folder):
    """Tensors in, tensors out, and a display; the loop is fed with memories."""
    module, pipe = example("diffusers_loop"), Pipe()
    injector = module.main(pipe, "a harbour", 80, size=48, encoder="descriptor")
    assert (len(pipe.calls), injector.last.frame) == (80, 80)
    assert all(image.shape == (1, 3, 48, 48) for _, image, _, _ in pipe.calls)
    assert pipe.calls[5][2] == 5
    assert module.STEPS * module.STRENGTH >= 1
    assert json.loads(Path("memory/live/status.json").read_bytes())["status"] == "stopped"
    assert {entry.prompt for entry in kept("memory")} == {"a harbour"}


class Stream:
    """StreamDiffusion with two frames in its pipeline."""

    device, dtype = "cpu", torch.float16

    def __init__(self):
        self.inside = []
        self.calls = 0

    def __call__(self, frame):
        """The frame of two calls ago, from -1 to 1."""
        assert (frame.shape, frame.dtype) == ((1, 3, 48, 48), torch.float16)
        self.inside.append(frame)
        late = self.inside.pop(0) if len(self.inside) > 2 else self.inside[0]
        self.calls += 1
        pixels = (late[0].permute(1, 2, 0).float() * 255).round().byte().numpy()
        made = torch.from_numpy(denoised(pixels, self.calls)).permute(2, 0, 1)[None] / 255
        return (made * 2 - 1).half()


def test_streamdiffusion_loop(own_folder):
    """The adapter keeps the stream's form, whatever is injected."""
    module, stream = example("streamdiffusion_loop"), Stream()
    with ImageMemory("memory") as memory:
        with module.StreamLoop(stream, memory, prompt="waves") as loop:
            frame = loop.start(SEEDS[3])
            for _ in range(60):
                frame = loop.next(frame)
                loop.injector.flush()  # a test has time to wait
        assert (stream.calls, loop.injector.last.frame) == (60, 60)
        assert {entry.prompt for entry in memory.cache.get_all()} == {"waves"}


class Webui(http.server.BaseHTTPRequestHandler):
    """stable-diffusion-webui's img2img, as far as the example knows it."""

    def do_POST(self):
        """Answer with a PNG that says what it was made with."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/sdapi/v1/img2img"
        self.server.asked.append(body)
        picture = Image.open(io.BytesIO(base64.b64decode(body["init_images"][0])))
        made = Image.fromarray(denoised(np.asarray(picture), body["seed"]))
        buffer = io.BytesIO()
        made.save(buffer, format="PNG")
        info = json.dumps({"seed": body["seed"], "sampler_name": "Euler a"})
        answer = {"images": [base64.b64encode(buffer.getvalue()).decode()], "info": info}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_what):
        """Quiet."""


def test_a1111_loop(own_folder, capsys):
    """Over HTTP, frame by frame; parameters are kept."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webui) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            Image.fromarray(SEEDS[0]).save("start.png")
            url = f"http://127.0.0.1:{server.server_port}/"
            injector = example("a1111_loop").main(url, "start.png", "a harbour", 40)
        finally:
            server.shutdown()
            thread.join()
    assert [body["seed"] for body in server.asked] == list(range(40))
    assert (server.asked[0]["width"], server.asked[0]["denoising_strength"]) == (48, 0.5)
    assert injector.last.frame == 40
    entry = kept("memory")[-1]
    assert (entry.prompt, entry.generation_params["sampler_name"]) == ("a harbour", "Euler a")


class Capture:
    """A camera that looks at three scenes, each for a while."""

    def __init__(self):
        self.left = [scene for scene in SEEDS[:3] for _ in range(60)]

    def read(self):
        """As OpenCV has it."""
        return (True, self.left.pop(0)[..., ::-1]) if self.left else (False, None)


def test_frame_sources(own_folder, capsys):
    """Channels the right way round, and only what is new is remembered."""
    module = example("frame_sources")
    assert module.watch(Capture()) == 3
    assert "frame " in capsys.readouterr().out  # it stood still
    stored = [np.asarray(Image.open(entry.image_path)) for entry in kept("memory")]
    assert all(np.array_equal(a, b) for a, b in zip(stored, SEEDS[:3], strict=True))
    top = module.to_touchdesigner(SEEDS[0])
    assert (top.shape, top.dtype, float(top[..., 3].min())) == ((48, 48, 4), np.float32, 1.0)
    assert np.array_equal(top[-1, :, 0] * 255, SEEDS[0][0, :, 0].astype(np.float32))
    assert np.array_equal(module.from_touchdesigner(top), SEEDS[0])
    assert np.array_equal(module.to_opencv(module.from_opencv(SEEDS[1])), SEEDS[1])
