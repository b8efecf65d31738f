"""A module or a function that is long says why in a comment, so that a reader knows that it is meant to be."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("models", "tff_pipelines", "edge", "orchestrator")
MOST_LINES = 300
MOST_BODY_LINES = 40
LONG_MODULE = f"# Over {MOST_LINES} lines"  # and then the reason
LONG_FUNCTION = f"# More than {MOST_BODY_LINES} lines"


def long_modules(path: Path, reason: str = f"^{LONG_MODULE}") -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    has_reason = any(re.search(reason, line) for line in lines)
    return [f"{path.name}: {len(lines)} lines"] if len(lines) > MOST_LINES and not has_reason else []


def long_functions(path: Path) -> list[str]:
    """Returns the functions whose body, without docstring and empty lines, is too long."""
    text = path.read_text(encoding="utf-8")
    lines, found = text.splitlines(), []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
            start = min([first.lineno, *(decorator.lineno for decorator in getattr(first, "decorator_list", []))])
            body = [line for line in lines[start - 1 : node.end_lineno] if line.strip()]
            has_reason = any(LONG_FUNCTION in line for line in lines[node.lineno - 1 : node.end_lineno])
            if len(body) > MOST_BODY_LINES and not has_reason:
                found.append(f"{path.name}, {node.name}: {len(body)} lines")
    return found


@pytest.mark.parametrize("package", [*PACKAGES, "tests", "benchmarks", "scripts", "examples"])
def test_a_long_module_says_why(package: str) -> None:
    assert [found for path in sorted((ROOT / package).rglob("*.py")) for found in long_modules(path)] == []


@pytest.mark.parametrize(("client", "endings"), [("c", ("c", "h")), ("web", ("ts", "css"))])
def test_a_long_file_of_a_client_says_why(client: str, endings: tuple[str, ...]) -> None:
    own = ("*.", "*/*.")  # its files and those of its folders, but nothing that was installed or built deeper
    folder = ROOT / "edge" / "clients" / client
    paths = sorted(path for ending in endings for place in own for path in folder.glob(place + ending))
    assert len(paths) > 20
    assert [found for path in paths for found in long_modules(path, f"Over {MOST_LINES} lines[:,] ")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_long_function_says_why(package: str) -> None:
    assert [found for path in sorted((ROOT / package).rglob("*.py")) for found in long_functions(path)] == []


def test_length_is_counted_without_docstring_and_empty_lines(tmp_path: Path) -> None:
    """The longest body that passes, and one line more; a reason is taken for either limit."""
    path = tmp_path / "module.py"
    most = "".join("    pass\n\n" for _ in range(MOST_BODY_LINES))
    path.write_text('def f():\n    """Does\n\n    nothing."""\n' + most)
    assert long_functions(path) == []
    path.write_text('def f():\n    """Does nothing."""\n' + most + "    pass\n")
    assert long_functions(path) == ["module.py, f: 41 lines"]
    path.write_text(f"def f():\n    {LONG_FUNCTION}: a table.\n{most}    pass\n")
    assert long_functions(path) == []
    path.write_text("pass\n" * MOST_LINES)
    assert long_modules(path) == []
    path.write_text("pass\n" * (MOST_LINES + 1))
    assert long_modules(path) == ["module.py: 301 lines"]
    path.write_text(f"{LONG_MODULE}: a table.\n" + "pass\n" * MOST_LINES)
    assert long_modules(path) == []
