"""What LiteRT.js lacks here is said in one line, and a worker's fault becomes one."""

from __future__ import annotations

import shutil

import pytest

from edge.clients import litert_js
from edge.clients.web_page import NO_PAGE
from edge.errors import ClientError


@pytest.fixture
def page(monkeypatch, tmp_path):
    """A page whose worker a test writes; nothing else is on the path."""
    folder = tmp_path / "dist"
    folder.mkdir()
    monkeypatch.setattr(litert_js, "page_folder", lambda: folder)
    litert_js.version.cache_clear()
    yield folder
    litert_js.version.cache_clear()


@pytest.fixture
def node(monkeypatch, tmp_path):
    """Puts a program `node` on the path that prints a version, and fails at anything else."""

    def put(version):
        program = tmp_path / "node"
        program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo {version}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return put


def test_no_page(monkeypatch):
    monkeypatch.setattr(litert_js, "page_folder", lambda: None)
    assert litert_js.why_not() == NO_PAGE


def test_no_node_and_an_old_one(page, node, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert litert_js.why_not() == "node not found: install Node 20 or later"
    node("v18.19.0")
    assert litert_js.why_not() == "node is 18.19.0: install Node 20 or later"
    node("what")
    assert litert_js.why_not() == "node is what: install Node 20 or later"


def test_a_page_that_does_not_run_in_node(page, node):
    node("v20.0.0")
    assert litert_js.why_not() == "the page for browsers does not run in Node: run make web of this fedkeys"


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node")
def test_a_worker_s_fault_is_one_line(page, tmp_path):
    (page / "worker.js").write_text(
        "self.onmessage = ({ data }) => self.postMessage({ error: { code: 'other', detail: data.name } });"
    )
    (tmp_path / "manifest.json").write_text('{"model": {}}')
    for name in ("train.tflite", "weights", "batches"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ClientError) as refused:
        litert_js.train_in_node(tmp_path, 0.1)
    assert str(refused.value).endswith("Error: other steps")
    assert len(str(refused.value).splitlines()) == 1
