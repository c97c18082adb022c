"""The exception tree: drawn, documented, printable, picklable, catchable as what it stands for."""

from __future__ import annotations

import builtins
import pickle
import re

import pytest

from reverie import errors
from reverie.errors import ReverieError

CLASSES = [getattr(errors, name) for name in errors.__all__]
TREE_LINE = re.compile(r"^([ │├└─]*)([A-Z]\w+)(?: \((\w+)\))?(?: +(\S.*))?$")


def make(cls: type[ReverieError], message: str) -> ReverieError:
    """An error of the class; one of them carries the rest of its batch."""
    return (
        cls(message, {1: errors.ImageError("bad")}, [0, 2], [[1.0]])
        if cls is errors.ImageBatchError
        else cls(message)
    )


def drawn_tree() -> dict[str, tuple[str | None, str | None]]:
    """Class name to (parent, built-in base) as the docstring of the module draws them."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    block = errors.__doc__.partition("::\n\n")[2]
    for line in block.splitlines():
        match = TREE_LINE.match(line.removeprefix("    "))
        if not match:
            continue
        depth = len(match[1]) // 4
        path = [*path[:depth], match[2]]
        tree[match[2]] = (path[-2] if depth else None, match[3])
    return tree


def real_tree() -> dict[str, tuple[str | None, str | None]]:
    """The same, as the classes say."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    for cls in CLASSES:
        ours = [base for base in cls.__bases__ if base.__module__ == errors.__name__]
        foreign = [base.__name__ for base in cls.__bases__ if base.__module__ == "builtins"]
        if cls is ReverieError:
            tree[cls.__name__] = (None, None)
        else:
            tree[cls.__name__] = (ours[0].__name__, foreign[0] if foreign else None)
    return tree


def test_the_drawn_tree_is_the_real_tree() -> None:
    """The tree in the module's docstring shows every class, its parent and its built-in base."""
    assert drawn_tree() == real_tree()


def test_every_exception_of_the_module_is_public() -> None:
    """No exception class hides outside ``__all__``, and ``__all__`` is sorted."""
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == set(errors.__all__)
    assert sorted(errors.__all__) == errors.__all__


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_documented(cls: type[ReverieError]) -> None:
    """Each class says in a sentence of its own when it is raised."""
    assert cls.__doc__
    assert cls.__doc__.strip().endswith(".")


@pytest.mark.parametrize("cls", CLASSES)
def test_str_is_the_plain_message(cls: type[ReverieError]) -> None:
    """The message is printed as it was written, also by the children of KeyError and OSError."""
    assert str(make(cls, "no entry 'cache_00001'\nin this cache")) == "no entry 'cache_00001'\nin this cache"


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not errors.ImageBatchError])
def test_str_without_a_message_is_the_name(cls: type[ReverieError]) -> None:
    """An error raised without a message still prints as something."""
    assert str(cls()) == cls.__name__


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_survive_pickle(cls: type[ReverieError]) -> None:
    """An error crosses a process boundary with its class and message."""
    copy = pickle.loads(pickle.dumps(make(cls, "what was wrong")))  # noqa: S301 - our own bytes
    assert type(copy) is cls
    assert str(copy) == "what was wrong"


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_caught_as_the_tree_says(name: str) -> None:
    """``except`` with the parent, or with the built-in in brackets, catches the error."""
    cls = getattr(errors, name)
    parent, foreign = drawn_tree()[name]
    for base in filter(None, (parent, foreign)):
        expected = getattr(errors, base, None) or getattr(builtins, base)
        with pytest.raises(expected):
            raise make(cls, "message")


@pytest.mark.parametrize(
    ("cls", "caught"),
    [
        (errors.ImageError, ValueError),
        (errors.ImageNotFoundError, FileNotFoundError),
        (errors.ImageNotFoundError, OSError),
        (errors.EncoderMismatchError, ValueError),
        (errors.ParamsError, ValueError),
        (errors.UnknownNameError, LookupError),
        (errors.EntryNotFoundError, KeyError),
        (errors.StorageError, OSError),
        (errors.LockTimeoutError, TimeoutError),
        (errors.LockTimeoutError, errors.StorageError),
        (errors.MissingDependencyError, ImportError),
    ],
)
def test_python_habits_catch_our_errors(cls: type[ReverieError], caught: type[Exception]) -> None:
    """Code written for the built-in exceptions catches ours too."""
    assert issubclass(cls, caught)
    assert issubclass(cls, ReverieError)


def test_an_error_of_a_batch_carries_the_rest_across_processes() -> None:
    """Which images failed and the vectors of the others survive pickle."""
    error = pickle.loads(pickle.dumps(make(errors.ImageBatchError, "1 of 3")))  # noqa: S301 - our own bytes
    assert {index: str(failure) for index, failure in error.failures.items()} == {1: "bad"}
    assert (error.indices, error.embeddings) == ([0, 2], [[1.0]])
