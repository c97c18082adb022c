"""What `observe` costs the loop that calls it: in the foreground, and in the background.

Run ``python benchmarks/bench_observe.py [--quick] [--folder DISK]``. The loop stands for one whose frames are
made elsewhere, on a GPU: a frame takes 33 ms in which this thread only waits. Loops are run in turn, over the
same slowly changing pictures with some grain, with a memory of 75 and the policy `wander`: bare; observed in
the foreground and in the background, with the descriptor, there also with frames that are read-only; in the
background with CLIP ViT-B/32 (a network of
that shape with random weights, `tests/clip_zoo.py`; the fastest engine that is installed). "observe" is
what the call takes of the thread that makes the frames; "frame" is how long a frame takes with it, against a
frame of the bare loop.

Asked, in the background: at most 2 % of a frame of 33 ms in the loop's thread, frames within 3 % of the bare
loop's. CLIP, which may need longer than a frame, passes over what comes meanwhile (``background="skip"``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from measure import Bar, Row, Timing, arguments, header, interleave, scratch, show
from reverie import ImageMemory, Injector
from reverie.errors import ReverieError
from reverie.generators.seed_images import built_in_seeds
from reverie.registry import create

FRAME_S = 0.033
SIZES = (512, 1024)
HERE = Path(__file__).resolve().parent

Pictures = list[np.ndarray[Any, np.dtype[np.uint8]]]


def pictures(size: int, number: int = 48) -> Pictures:
    """Frames of a loop that moves: built-in pictures that drift, with grain."""
    rng, seeds = np.random.default_rng(0), built_in_seeds(size)
    made = []
    for frame in range(number):
        grain = rng.integers(-3, 4, (size, size, 3))
        moved = np.roll(seeds[frame // 8 % len(seeds)], 5 * frame, axis=1)
        made.append(np.clip(moved + grain, 0, 255).astype(np.uint8))
    return made


def frozen(frames: Pictures) -> Pictures:
    """The same, which nobody can write into."""
    copies = [frame.copy() for frame in frames]
    for copy in copies:
        copy.flags.writeable = False
    return copies


class Loop:
    """One loop, frame by frame.

    Args:
        frames: What is shown, over and over.
        injector: Who observes it; None for the bare loop.
    """

    def __init__(self, frames: Pictures, injector: Injector | None) -> None:
        self._frames = frames
        self._number = count()
        self.injector = injector
        self.spent: list[int] = []

    def frame(self) -> None:
        """Wait for the next one, and have it observed."""
        time.sleep(FRAME_S)
        start = time.perf_counter_ns()
        if self.injector is not None:
            self.injector.observe(self._frames[next(self._number) % len(self._frames)], prompt="a loop")
        self.spent.append(time.perf_counter_ns() - start)

    def begin(self) -> None:
        """Before its turn: nothing of an earlier one is left to do."""
        if self.injector is not None:
            self.injector.flush()


def clip(folder: Path) -> Any:
    """CLIP ViT-B/32 with random weights, by the fastest engine that runs here; None without any."""
    with suppress(ImportError):
        sys.path.insert(0, str(HERE.parent / "tests"))
        import clip_zoo

        clip_zoo.full_clip(folder)
        for name in ("clip:openvino", "clip"):
            with suppress(ReverieError):
                encoder = create("encoders", name, model_dir=str(folder), threads=1)
                encoder.load()
                return encoder
    return None


def compare(size: int, folder: Path, network: Any, *, quick: bool) -> list[Row]:
    """All loops over frames of one size, interleaved."""
    frames = pictures(size)
    with ExitStack() as stack:

        def observed(
            name: str, encoder: Any, *, background: bool | Literal["skip"], frames: Pictures = frames
        ) -> Loop:
            place = folder / f"{size}-{name}"
            memory = stack.enter_context(ImageMemory(place, 75, encoder=encoder, eviction="rke"))
            injector = Injector(memory, "wander", background=background)
            return Loop(frames, stack.enter_context(injector))

        loops = {
            "bare": Loop(frames, None),
            "foreground, descriptor": observed("foreground", "descriptor", background=False),
            "background, descriptor": observed("background", "descriptor", background=True),
            "background, descriptor, read-only": observed(
                "read-only", "descriptor", background=True, frames=frozen(frames)
            ),
        }
        if network is not None:
            loops["background, CLIP"] = observed("clip", network, background="skip")
        turns: dict[str, Callable[[], object]] = {name: loop.frame for name, loop in loops.items()}
        calls, rounds = 40, 3 if quick else 10

        def before() -> None:
            for loop in loops.values():
                loop.begin()

        taken = interleave(turns, rounds=rounds, calls=calls, warm_up=2, before=before)
        rows = []
        for name, loop in loops.items():
            own = Timing(np.array(loop.spent[2 * calls :]) / 1e9)
            late = name.startswith("background")
            rows.append(
                Row(f"{size}: frame, {name}", taken[name], taken["bare"], Bar(slower=1.03) if late else None)
            )
            if loop.injector is not None:
                bar = Bar(at_most=0.02 * FRAME_S) if late else None
                rows.append(Row(f"{size}: observe, {name}", own, None, bar))
                if late:
                    waits, seen = loop.injector.waited_s / len(loop.spent) * 1e3, loop.injector.passed_over
                    print(
                        f"  {size}, {name}: waits {waits:.2f} ms a frame for the one before, passes over "
                        f"{seen / len(loop.spent):.0%}"
                    )
    return rows


def main() -> None:
    """Print the table."""
    options = arguments("Time what observing costs a loop.")
    print(header(options.folder), end="\n\n")
    with scratch(options.folder) as folder:
        network = clip(folder / "model")
        rows = [row for size in SIZES for row in compare(size, folder, network, quick=options.quick)]
    if network is not None:
        print(f"  CLIP runs on {network.choice}")
    show(rows)


if __name__ == "__main__":
    main()
