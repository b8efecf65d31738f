"""Draws docs/images/report.png and attack.png: parts of the pages of a run, photographed by a headless Chromium.

python scripts/draw_pictures.py [RUN], by default runs/demo, which `make demo` trains. Both pages show words of the
built-in text only; a run of another text is refused.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REPORT_SIZE, ATTACK_SIZE = (1000, 1130), (760, 520)  # width, height


def main(arguments: list[str]) -> None:
    """Draws both pictures."""
    run = Path(arguments[0] if arguments else "runs/demo")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("there is no Chromium here: install Debian's package, `sudo apt-get install chromium`")
    missing = [name for name in ("config.toml", "report.html", "attack.html") if not (run / name).exists()]
    if missing:
        sys.exit(f"{run} has no {missing[0]}: run `make demo` first, or name another run")
    if not re.search(r'^source = "chitchat"$', (run / "config.toml").read_text(), re.MULTILINE):
        sys.exit(f"{run} was trained on a text of yours, which may not be public: name a run of the built-in text")
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.html"
        part.write_text(first_figure((run / "attack.html").read_text(encoding="utf-8")), encoding="utf-8")
        photograph(browser, run / "report.html", REPORT_SIZE, IMAGES / "report.png")
        photograph(browser, part, ATTACK_SIZE, IMAGES / "attack.png")


def first_figure(page: str) -> str:
    """Returns a page of the first figure alone, in the page's own style."""
    style, figure = re.search(r"<style>.*?</style>", page, re.DOTALL), re.search(r"<svg.*?</svg>", page, re.DOTALL)
    if style is None or figure is None:
        sys.exit("attack.html holds no figure: draw it again with `fedkeys attack`")
    return f'<!DOCTYPE html><meta charset="utf-8">{style[0]}<main style="padding:10px">{figure[0]}</main>'


def photograph(browser: str, page: Path, size: tuple[int, int], picture: Path) -> None:
    """Writes a picture of the top of a page."""
    width, height = size
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={width},{height}", f"--screenshot={picture}", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    if done.returncode or not picture.exists():
        sys.exit(f"{browser} drew nothing: {done.stderr.strip().splitlines()[-1:]}")
    print(f"wrote {picture.relative_to(IMAGES.parents[1])}")


if __name__ == "__main__":
    main(sys.argv[1:])
