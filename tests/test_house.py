"""The project's own rules, held by tests."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def test_every_test_says_what_it_shows():
    """Each test function has a docstring."""
    silent = [
        f"{path.name}:{function.lineno} {function.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for function in functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []


def test_no_function_is_too_long():
    """No function of src is longer than 60 lines without its docstring."""
    long = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for function in functions(path):
            doc = ast.get_docstring(function, clean=False)
            lines = function.end_lineno - function.lineno + 1 - (len(doc.splitlines()) if doc else 0)
            if lines > 60:
                long.append(f"{path.name}:{function.lineno} {function.name}: {lines} lines")
    assert long == []


def test_no_module_is_too_long():
    """No module of src is much longer than 500 lines."""
    sizes = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "src").rglob("*.py")}
    assert {name: size for name, size in sizes.items() if size > 520} == {}


def test_every_dependency_has_a_reason():
    """Each dependency in pyproject.toml has a lower bound and a reason beside it."""
    text = (ROOT / "pyproject.toml").read_text()
    listed = tomllib.loads(text)["project"]["dependencies"]
    for dependency in listed:
        line = next(line for line in text.splitlines() if f'"{dependency}"' in line)
        assert ">=" in dependency
        assert re.search(r"# \w+", line), line


def test_no_file_is_large():
    """No tracked file is above 500 kB."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    assert [file.name for file in files if file.is_file() and file.stat().st_size > 500_000] == []


def test_errors_are_never_swallowed():
    """No `except Exception` in src, unless it raises again."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
            if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []
