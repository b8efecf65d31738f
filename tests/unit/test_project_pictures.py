"""`make picture`: it says what is missing, and takes no page of a text that may not be public."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "draw_pictures.py"


def draw(run: Path, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, str(run)], env={"PATH": str(path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """A folder with a browser that must not be called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "chromium").write_text("#!/bin/sh\nexit 1\n")
    (folder / "chromium").chmod(0o755)
    return folder


def test_without_a_browser_it_names_the_package(tmp_path: Path) -> None:
    assert "apt-get install chromium" in draw(tmp_path, tmp_path)


def test_without_a_demo_it_says_how_to_get_one(tmp_path: Path, browser: Path) -> None:
    assert "run `make demo` first" in draw(tmp_path / "run", browser)


@pytest.mark.parametrize(("source", "said"), [("people.jsonl", "may not be public"), ("chitchat", "holds no figure")])
def test_only_the_built_in_text_is_photographed(tmp_path: Path, browser: Path, source: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(f'[data]\nsource = "{source}"\n')
    for name in ("report.html", "attack.html"):
        (tmp_path / name).write_text("<html></html>")
    found = draw(tmp_path, browser)
    assert said in found
    assert ("web.png stays as it is: run `make web` first" in found) == (source == "chitchat")  # there is no Node here
