"""What a test needs that uses the built page in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Optional

import pytest

from edge.clients.web_page import NO_PAGE, page_folder

WEB = Path(__file__).resolve().parents[2] / "edge" / "clients" / "web"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> Optional[str]:
    """The browser's program, or None."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def require_browser() -> str:
    """The browser's program; skips the test where it or Node is missing."""
    browser = find_browser()
    if browser is None or shutil.which("node") is None:
        pytest.skip("there is no Chromium, or no Node to drive it")
    return browser


def built_page_and_browser() -> tuple[Path, str]:
    """The built page's folder and the browser's program; skips the test where one is missing."""
    page, browser = page_folder(), require_browser()
    if page is None:
        pytest.skip(NO_PAGE)
    if not (WEB / "node_modules" / "playwright-core").is_dir():
        pytest.skip("playwright-core is not installed: run make web")
    return page, browser
