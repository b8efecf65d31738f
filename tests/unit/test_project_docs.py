"""The pages that are written from the code say what the code says, and the pages' commands and links exist."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def drawing() -> ModuleType:
    """Returns scripts/draw_architecture.py as a module."""
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "scripts" / "draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "script",
    [
        ["draw_architecture.py", "--check"],
        ["list_messages.py", "--check"],
        ["list_keras_layers.py", "--check"],
        ["check_docs.py"],
    ],
)
def test_the_pages_agree_with_the_code(script: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script[0], *script[1:]],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_of_the_server_is_on_exactly_one_written_floor(drawing: ModuleType) -> None:
    package = drawing.read_package("orchestrator")
    assert sorted(room for floor in package.floors for room in floor) == sorted(package.rooms)


def test_a_room_imports_only_from_floors_below_its_own(drawing: ModuleType) -> None:
    for name in ("orchestrator", "edge"):
        package = drawing.read_package(name)
        height = {room: -number for number, floor in enumerate(package.floors) for room in floor}
        upwards = [(room, used) for room in height for used in package.imports[room] if height[used] >= height[room]]
        assert upwards == []
        assert any(package.imports.values())


def test_a_page_that_lags_behind_is_named_and_check_writes_nothing(
    drawing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "picture.svg"
    page.write_text(f"before\n{drawing.BEGIN}\nold\n{drawing.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(drawing, "PAGE", page)
    monkeypatch.setattr(drawing, "PICTURE", picture)
    monkeypatch.setattr(drawing, "relative", str)

    assert drawing.main(["--check"]) == 1
    assert f"{page} is out of date" in capsys.readouterr().out
    assert "old" in page.read_text(encoding="utf-8")

    assert drawing.main([]) == 0
    written = page.read_text(encoding="utf-8")
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "| `orchestrator/secagg` | " in written
    assert drawing.main(["--check"]) == 0


def test_a_circle_between_rooms_is_an_error(drawing: ModuleType) -> None:
    with pytest.raises(SystemExit, match="circular imports between a, b"):
        drawing.computed_floors({"a": frozenset({"b"}), "b": frozenset({"a"}), "c": frozenset()})
