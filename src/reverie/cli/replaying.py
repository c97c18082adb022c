"""What `reverie replay` does around the library's replay: settings, tables, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

from reverie import registry
from reverie.cli.downloading import downloads
from reverie.cli.output import Column, count, facts, json_line, near, note, print_table, say, show
from reverie.loop.open_loop import Witnessed
from reverie.loop.presets import memory_settings
from reverie.loop.recording import Recording, open_recording
from reverie.loop.replay import (
    OPEN_LOOP,
    Figures,
    Replay,
    ReplaySettings,
    check_folder,
    make_policy,
    promised_alarms,
    recorded_figures,
    replay,
    states,
    suits,
    summary,
    write_replays,
)

__all__ = ["asked", "run"]

_DEFAULT = ("wander", "gentle", "restless", "spec")
_DASH = "\N{EN DASH}"
_SHOWN = 12  # injections of a single policy that are listed


def run(chosen: Mapping[str, Any]) -> None:
    """Replay with these options, and show or write what came of it; raises as the library."""
    with downloads():
        recording = open_recording(chosen["journal"], chosen["arm"], chosen["encoder"])
    if chosen["out"] is not None:
        check_folder(chosen["out"], recording)
    wanted = list(asked(recording, chosen))
    for settings in wanted:  # what is wrong with any of them is said before the first is replayed
        make_policy(settings)
    replays = []
    for settings in wanted:
        note(f"replaying {count(len(recording.frames), 'frame')} through {settings.name}")
        replays.append(replay(recording, settings))
    files = [] if chosen["out"] is None else write_replays(chosen["out"], recording, replays)
    if chosen["as_json"]:
        json_line(summary(recording, replays))
        return
    _tell(recording, replays)
    if files:
        say(f"look at {near(files[0])}, {near(files[1])}")


def asked(recording: Recording, chosen: Mapping[str, Any]) -> Iterator[ReplaySettings]:
    """Settings of every replay that these options ask for: each policy with each eviction."""
    for eviction in chosen["evictions"]:
        registry.check("evictions", eviction)
    for policy in chosen["policies"] or _DEFAULT:
        memory = suits(recording, policy)
        if chosen["remember_seeds"] is not None:
            memory = changed(memory, remember_seeds=chosen["remember_seeds"])
        if chosen["admission"] is not None:
            highest = None if chosen["admission"] == "none" else chosen["admission"]
            memory = changed(memory, admission=highest)
        for eviction in chosen["evictions"] or (memory.eviction,):
            yield ReplaySettings(
                policy,
                chosen["options"],
                changed(memory, eviction=eviction),
                chosen["max_size"],
                chosen["seed"],
                policy if len(chosen["evictions"]) < 2 else f"{policy}/{eviction}",
            )


# ------------------------------------------------------------------ for people


def _tell(recording: Recording, replays: Sequence[Replay]) -> None:
    say()
    show(facts(_about(recording, replays)))
    say()
    print_table(_COLUMNS, list(_rows(recording, replays)))
    say()
    show(facts(_LEGEND))
    say()
    _wishes(replays)
    show(OPEN_LOOP, "")


def _about(recording: Recording, replays: Sequence[Replay]) -> Iterator[tuple[str, str]]:
    encoder = recording.matcher.encoder.name
    made = "" if recording.recorded_vectors else ", made of the pictures now"
    yield "recorded", f"{count(len(recording.frames), 'frame')} in {near(recording.folder)}"
    yield "vectors", f"of {encoder}{made}"
    done = (f"{name} {_span(first, last)}" for name, first, last in states(replays[0].frames))
    yield "the loop", ", ".join(done)
    alarms = ", ".join(map(str, promised_alarms(replays[0].frames)))
    yield "bounded alarm", f"raised at frame {alarms}" if alarms else "never raised"
    memories: dict[str, list[str]] = {}
    for each in replays:
        memories.setdefault(_memory(each), []).append(each.name)
    for memory, names in memories.items():
        yield "memory", f"{', '.join(names)}: {memory}" if len(replays) > 1 else memory


def _memory(one: Replay) -> str:
    memory = one.settings.memory or memory_settings(one.settings.policy)
    admitted = "every frame" if memory.admission is None else f"frames up to {memory.admission:g} alike"
    seeds = f"{count(one.seeds, 'seed')}, " if one.seeds else ""
    return f"{seeds}{admitted}, {one.settings.max_size or 0:,} places, {memory.eviction}"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}{_DASH}{last}"


_COLUMNS = [
    Column("", flexible=True),
    *(
        Column(title, right=True)
        for title in ("kept", "evicted", "images", "alarms", "first", "wanted", "agrees", "exact")
    ),
]

_LEGEND = [
    ("images", "effective images (Vendi score) of the memory in the end"),
    ("alarms", "times that the policy's own alarm went on; first: at which frame"),
    ("wanted", "injections that the policy wanted"),
    ("agrees", "frames with which it did what was recorded"),
    ("exact", "the frame up to which its own loop would have been this one"),
]


def _rows(recording: Recording, replays: Sequence[Replay]) -> Iterator[list[str]]:
    policy = recording.policy or "unknown"
    yield [f"recorded: {policy}", *_cells(recorded_figures(recording)), _DASH, _DASH]
    for each in replays:
        agrees = f"{int(100 * each.agreement.both)} %"  # 100 % is all of them, never nearly all
        yield [each.name, *_cells(each.figures), agrees, str(each.exact_to)]


def _cells(figures: Figures) -> list[str]:
    images = figures.effective_images
    return [
        str(figures.kept),
        str(figures.evicted),
        _DASH if images is None else f"{images:.1f}",
        _DASH if figures.alarms is None else str(figures.alarms),
        _DASH if figures.first_alarm is None else str(figures.first_alarm),
        str(figures.wanted),
    ]


def _wishes(replays: Sequence[Replay]) -> None:
    """The first injection of each policy; of a single one, the first dozen."""
    if len(replays) == 1:
        title, wanting = f"{replays[0].name} wanted", _wanting(replays[0])
        rows = [([str(each.frame)], each) for each in wanting[:_SHOWN]]
        _wish_table([Column(title, right=True)], rows, len(wanting) - len(rows))
    else:
        _wish_table([Column("first wanted by"), Column("frame", right=True)], _first_wishes(replays))


_OR_NEW = (
    "or new: something new would have been imagined as well, and the newer of the two taken; what, only a "
    "generator could tell."
)


def _first_wishes(replays: Sequence[Replay]) -> list[tuple[list[str], Witnessed]]:
    """The first of each policy, once where all its memories lead to the same."""
    found: dict[tuple[str, int, str | None, str], tuple[list[str], Witnessed]] = {}
    for each in replays:
        for frame in _wanting(each)[:1]:
            key = (each.settings.policy, frame.frame, frame.target, frame.reason)
            label = each.settings.policy if key in found else each.name
            found[key] = ([label, str(frame.frame)], frame)
    return list(found.values())


def _wish_table(
    columns: Sequence[Column], rows: Sequence[tuple[list[str], Witnessed]], left: int = 0
) -> None:
    """What was wanted, where anything was, and a word on what could not be known of it."""
    cells = [[*first, _picture(frame), frame.reason] for first, frame in rows]
    if cells:
        print_table([*columns, Column("picture"), Column("why", wraps=True)], cells)
        if left:
            say(f"and {left} more; --out DIR writes every frame with its reason")
        say()
    if any(frame.imagines for _, frame in rows):
        show(_OR_NEW, "")


def _wanting(one: Replay) -> list[Witnessed]:
    return [frame for frame in one.frames if frame.wants]


def _picture(frame: Witnessed) -> str:
    if frame.target is None:
        return "something new"
    return f"{Path(frame.target).with_suffix('').as_posix()}{' or new' if frame.imagines else ''}"
