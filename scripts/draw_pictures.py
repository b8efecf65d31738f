"""Draws docs/images/report.png, attack.png and web.png, photographed by a headless Chromium.

python scripts/draw_pictures.py [RUN], by default runs/demo, which `make demo` trains. The first two are parts of its
pages, which show words of the built-in text only; a run of another text is refused. The third is of a phone that takes
part in a round of `fedkeys phone-demo` on the run. Where Node 20 or the page is missing it stays as it is.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES, WEB = ROOT / "docs" / "images", ROOT / "edge" / "clients" / "web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REPORT_SIZE, ATTACK_SIZE, WEB_SIZE = (1000, 1130), (760, 520), (804, 1640)  # width, height
ENROL_HEIGHT = 690  # of the left picture, beside which is nothing


def main(arguments: list[str]) -> None:
    """Draws the pictures."""
    run = Path(arguments[0] if arguments else "runs/demo")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("there is no Chromium here: install Debian's package, `sudo apt-get install chromium`")
    missing = [name for name in ("config.toml", "report.html", "attack.html") if not (run / name).exists()]
    if missing:
        sys.exit(f"{run} has no {missing[0]}: run `make demo` first, or name another run")
    if not re.search(r'^source = "chitchat"$', (run / "config.toml").read_text(), re.MULTILINE):
        sys.exit(f"{run} was trained on a text of yours, which may not be public: name a run of the built-in text")
    has_web = can_draw_phone()
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.html"
        part.write_text(first_figure((run / "attack.html").read_text(encoding="utf-8")), encoding="utf-8")
        photograph(browser, run / "report.html", REPORT_SIZE, IMAGES / "report.png")
        photograph(browser, part, ATTACK_SIZE, IMAGES / "attack.png")
        if has_web:
            draw_phone(run, browser, Path(folder))


def can_draw_phone() -> bool:
    """Returns whether there is what a phone's picture takes, and says if not."""
    has = (WEB / "dist" / "index.html").exists() and (WEB / "node_modules" / "playwright-core").exists()
    if not (has and shutil.which("node")):
        print("docs/images/web.png stays as it is: run `make web` first, which needs Node 20", file=sys.stderr)
        return False
    return True


def draw_phone(run: Path, browser: str, folder: Path) -> None:
    """Draws a phone that enrols, and beside it the same phone after a round."""
    with phone_demo(run, folder / "phone") as (url, code):
        command = ["node", WEB / "tests" / "join.mjs", url, browser, code, folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            sys.exit(f"the phone did not take part:\n{done.stderr.strip()}")
    place = "position:absolute;top:0;width:390px;overflow:hidden"
    pictures = (
        f'<div style="{place};left:0;height:{ENROL_HEIGHT}px"><img src="enrol.png"></div>'
        f'<div style="{place};right:0;height:{WEB_SIZE[1]}px"><img src="round.png"></div>'
    )
    both = folder / "both.html"
    both.write_text(f'<!DOCTYPE html><meta charset="utf-8">{pictures}', encoding="utf-8")
    photograph(browser, both, WEB_SIZE, IMAGES / "web.png")


@contextlib.contextmanager
def phone_demo(run: Path, out: Path) -> Iterator[tuple[str, str]]:
    """Yields the address and the code of a demo of one round, which ends with the block."""
    with socket.create_server(("localhost", 0)) as free:
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, ROOT / "fedkeys.py", "phone-demo", "--run", run, "--out", out, "--web", address]
    command += ["--rounds", "1", "--json"]
    process = subprocess.Popen(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        printed = []
        for line in process.stderr:
            printed.append(line)
            code = re.search(r"#code=([A-Z0-9-]+)", line)
            if code is not None:
                yield f"http://{address}/", code[1]
                return
        sys.exit(f"phone-demo ended: {''.join(printed[-1:]).strip()}")
    finally:
        process.terminate()
        process.communicate()


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
