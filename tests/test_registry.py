"""Names to implementations: what exists, what is missing, what a plug-in adds."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reverie import registry
from reverie.errors import InputError, MissingDependencyError, UnknownNameError

BUILT_IN = [(kind, name) for kind in registry.kinds() for name in registry._BUILT_IN[kind]]

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """``install(group, name, value, code)``: a plug-in package that announces itself by an entry point."""
    points: list[EntryPoint] = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    def add(group: str, name: str, value: str, code: str | None = None) -> None:
        points.append(EntryPoint(name=name, value=value, group=group))
        if code is not None:
            (tmp_path / f"{value.partition(':')[0]}.py").write_text(code)
        registry._plugins.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    before = set(sys.modules)
    registry._plugins.cache_clear()
    yield add
    registry._plugins.cache_clear()
    for module in [name for name in sys.modules if name.startswith("dreamy_") and name not in before]:
        del sys.modules[module]


def test_kinds_are_the_parts_of_the_house() -> None:
    """Seven kinds of parts are chosen by name, each with a word for messages."""
    expected = ("encoders", "generators", "indexes", "images", "evictions", "policies", "searchers")
    assert registry.kinds() == expected
    assert set(registry._SINGULAR) == set(registry.kinds())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("encoders", {"clip", "clip-vit-b32", "clip-vit-l14", "descriptor", "dinov2-base", "siglip2-base"}),
        ("generators", {"patches"}),
        ("indexes", {"json", "sqlite"}),
        ("images", {"local"}),
        ("evictions", {"lru", "oldest"}),
        ("policies", {"none", "random", "spec"}),
    ],
)
def test_names_are_sorted_and_hold_the_built_in_ones(kind: str, expected: set[str]) -> None:
    """Every built-in name is listed, in alphabetical order."""
    assert registry.names(kind) == sorted(registry.names(kind))
    assert expected <= set(registry.names(kind))


@pytest.mark.parametrize(
    ("kind", "word"), [("encoders", "encoder"), ("evictions", "eviction policy"), ("images", "image store")]
)
def test_an_unknown_name_lists_those_that_exist(install: Install, kind: str, word: str) -> None:
    """The error names what was asked for and what there is."""
    with pytest.raises(UnknownNameError) as caught:
        registry.load(kind, "clipp")
    assert str(caught.value) == f"no {word} is called 'clipp'; there are: {', '.join(registry.names(kind))}"


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_every_built_in_name_loads(kind: str, name: str) -> None:
    """Each name gives its class; a table entry without code fails here."""
    target = registry._BUILT_IN[kind][name].target
    part = registry.load(kind, name)
    assert callable(part)
    assert f"{part.__module__}:{part.__qualname__}" == target


def test_clip_says_what_to_install_and_what_works_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error holds the install line and the way that needs none."""
    monkeypatch.setitem(sys.modules, "reverie.encoders.clip", None)
    with pytest.raises(MissingDependencyError) as caught:
        registry.load("encoders", "clip:openvino-bf16")
    assert 'pip install "reverie[clip]"' in str(caught.value)
    assert 'encoder="descriptor" works now' in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


def test_what_follows_a_colon_is_the_variant(install: Install) -> None:
    """It reaches the part as ``variant``; the name before it is what is looked up."""
    install("reverie.encoders", "mine", "dreamy_variant:build", "def build(**kwargs):\n    return kwargs\n")
    assert registry.create("encoders", "mine") == {}
    assert registry.create("encoders", "mine:fast-bf16", threads=2) == {"variant": "fast-bf16", "threads": 2}


@pytest.mark.parametrize("name", ["descriptor:fast", "clip:", "nobody:fast", ":", ""])
def test_a_variant_of_a_part_that_has_none_is_unknown(name: str) -> None:
    """Also an empty variant, and one of an unknown part; nothing is imported to find out."""
    with pytest.raises(UnknownNameError, match="no encoder is called"):
        registry.check("encoders", name)


def test_an_option_that_a_part_does_not_take_is_named() -> None:
    """The error says which part and which argument, and the part is not made."""
    with pytest.raises(InputError, match=r"'descriptor' cannot be made like that: .*'threads'"):
        registry.create("encoders", "descriptor", threads=2)


def test_create_passes_its_arguments_on(install: Install) -> None:
    """Positional and named arguments reach the class, also one that is called ``kind``."""
    install(
        "reverie.encoders",
        "mine",
        "dreamy_args:build",
        "def build(*args, **kwargs):\n    return args, kwargs\n",
    )
    assert registry.create("encoders", "mine", 1, kind="x", name="y") == ((1,), {"kind": "x", "name": "y"})


def test_a_plug_in_is_found_by_its_entry_point(install: Install) -> None:
    """A package that announces an encoder is listed with ours, and loaded only when it is asked for."""
    install("reverie.encoders", "dino", "dreamy_dino:Dino", "class Dino:\n    pass\n")
    assert {"clip", "descriptor", "dino"} <= set(registry.names("encoders"))
    assert "dreamy_dino" not in sys.modules
    assert registry.load("encoders", "dino").__name__ == "Dino"
    assert "dino" not in registry.names("indexes")


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        ("dreamy_absent:Dino", None, "No module named 'dreamy_absent'"),
        ("dreamy_torch:Dino", "import no_such_library\n", "No module named 'no_such_library'"),
        ("dreamy_empty:Dino", "x = 1\n", "has no attribute 'Dino'"),
    ],
    ids=["package gone", "its dependency gone", "class gone"],
)
def test_a_plug_in_that_cannot_be_loaded_says_why(
    install: Install, value: str, code: str | None, says: str
) -> None:
    """The error names the kind, the name, the package behind it and the cause."""
    install("reverie.encoders", "dino", value, code)
    with pytest.raises(MissingDependencyError) as caught:
        registry.load("encoders", "dino")
    message = str(caught.value)
    assert message.startswith(f"the encoder 'dino' comes from the package behind {value!r}")
    assert says in message
    assert caught.value.__cause__ is not None


def test_a_built_in_part_whose_library_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an install line of its own the cause is the message."""
    part = SimpleNamespace(target="reverie_no_such_module:Class", needs="")
    monkeypatch.setitem(registry._BUILT_IN["encoders"], "broken", part)
    with pytest.raises(
        MissingDependencyError, match=r"^the encoder 'broken' is not installed: No module named"
    ):
        registry.load("encoders", "broken")


def test_entry_points_are_read_once(monkeypatch: pytest.MonkeyPatch, install: Install) -> None:
    """Asking for names again costs no second search of the installed packages."""
    calls: list[str] = []

    def entry_points(*, group: str) -> list[Any]:
        calls.append(group)
        return []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry._plugins.cache_clear()
    for _ in range(3):
        registry.names("policies")
    assert calls == ["reverie.policies"]
