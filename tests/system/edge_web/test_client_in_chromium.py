"""The browser's client on the conformance vectors in Chromium: its cryptography and patterns are not those of Node."""

from __future__ import annotations

import json
import subprocess

import pytest
from web_browser import WEB, require_browser

_LEAST = 90  # tests, of which the table of lies has some 70


@pytest.mark.timeout(120)
def test_the_vectors_and_the_table_of_lies():
    browser = require_browser()
    if not (WEB / "build" / "in_browser.js").is_file():
        pytest.skip("the browser's client is not built: make web, which needs Node 20")
    command = ["node", WEB / "tests" / "in_browser" / "run.mjs", browser]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["failed"] == []
    assert results["passed"] >= _LEAST
