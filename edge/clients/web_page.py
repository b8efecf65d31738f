"""Finds the page with which browsers take part: `make web` builds it, and a wheel holds what was built before it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

NO_PAGE = "the page for browsers is not built: run make web, which needs Node 20"
_DIST = Path(__file__).resolve().parent / "web" / "dist"


def page_folder() -> Optional[Path]:
    """Returns the folder of the built page, which holds index.html, or None if nobody built it: see NO_PAGE."""
    return _DIST if (_DIST / "index.html").is_file() else None
