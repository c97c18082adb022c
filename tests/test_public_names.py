"""The public surface: ``reverie.__all__`` is true, every module is documented and exports what it says."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import reverie


def module_names() -> list[str]:
    """Every module of the package but ``__main__``, which runs the command."""
    root = Path(reverie.__path__[0])
    parts = [file.relative_to(root).with_suffix("").parts for file in root.rglob("*.py")]
    names = {".".join(["reverie", *(part for part in path if part != "__init__")]) for path in parts}
    return sorted(name for name in names if not name.endswith("__main__"))


def public_callables(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Classes and functions that the module itself defines under a public name."""
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if own and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            yield name, value


def undocumented(name: str, value: Any) -> list[str]:
    """The name and those of its public methods that have no docstring of their own or inherited."""
    bare = [] if value.__doc__ and not value.__doc__.startswith(f"{value.__name__}(") else [name]
    if inspect.isclass(value):
        for key, member in vars(value).items():
            plain = getattr(member, "__func__", member)
            if not key.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
                bare += [] if inspect.getdoc(getattr(value, key)) else [f"{name}.{key}"]
    return bare


def test_all_is_sorted_and_complete() -> None:
    """``reverie.__all__`` is sorted and holds the lazily resolved names and the version, nothing else."""
    assert sorted(reverie.__all__) == reverie.__all__
    assert {*reverie._HOMES, "__version__"} == set(reverie.__all__)


@pytest.mark.parametrize("name", reverie.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """Each public name is there, is documented, and is the object of its home module."""
    value = getattr(reverie, name)
    if name == "__version__":
        assert value.count(".") == 2
    else:
        assert value is getattr(importlib.import_module(reverie._HOMES[name]), name)
        assert value.__doc__


def test_dir_lists_every_public_name_once() -> None:
    """``dir(reverie)`` shows the names before they are loaded, each once."""
    listed = dir(reverie)
    assert set(reverie.__all__) <= set(listed)
    assert len(set(listed)) == len(listed)


def test_unknown_attribute_is_an_attribute_error_that_names_it() -> None:
    """A misspelt name fails as it does on any module."""
    with pytest.raises(AttributeError, match=r"^module 'reverie' has no attribute 'CacheManger'$"):
        reverie.CacheManger  # noqa: B018 - reading it is the test


def test_star_import_gives_exactly_the_public_names() -> None:
    """``from reverie import *`` binds ``__all__``."""
    space: dict[str, Any] = {}
    exec("from reverie import *", space)  # noqa: S102 - the only way to write it inside a function
    assert set(space) - {"__builtins__"} == set(reverie.__all__)


@pytest.mark.parametrize("name", module_names())
def test_every_module_is_documented_and_its_all_is_true(name: str) -> None:
    """A module has a docstring; ``__all__``, where present, names what exists, each once."""
    module = importlib.import_module(name)
    assert module.__doc__
    if hasattr(module, "__all__"):
        assert len(set(module.__all__)) == len(module.__all__)
        assert [known for known in module.__all__ if not hasattr(module, known)] == []


@pytest.mark.parametrize("name", module_names())
def test_nothing_public_is_undocumented(name: str) -> None:
    """Every public class, method, property and function says what it does."""
    found = [
        bare
        for known, value in public_callables(importlib.import_module(name))
        for bare in undocumented(known, value)
    ]
    assert found == []
