"""What the web door hands out, and the headers around it."""

from __future__ import annotations

import asyncio
import socket
import ssl

import aiohttp
import pytest
from loopback import NAMES
from web_peer import a_door, ask

from orchestrator.network.certificates import SERVER
from orchestrator.network.errors import KeysError, PortInUse
from orchestrator.network.tls import Tls, web_context
from orchestrator.network.web_door import WebDoor
from orchestrator.network.web_site import Site


@pytest.fixture
def page(tmp_path):
    folder = tmp_path / "dist"
    (folder / "litert").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>the page")
    (folder / "app.js").write_text("run()")
    (folder / "litert" / "core.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret").write_text("outside")
    (folder / "link").symlink_to(tmp_path / "secret")
    return folder


def test_the_page_s_files_are_served_and_nothing_beside_them(page):
    with a_door(site=Site(page, None)) as (_, url):
        status, headers, body = ask("GET", f"{url}/")
        assert (status, body, headers["Content-Type"]) == (200, b"<!doctype html>the page", "text/html")
        assert ask("GET", f"{url}/app.js")[2] == b"run()"
        assert ask("GET", f"{url}/litert/core.wasm")[1]["Content-Type"] == "application/wasm"
        for path in ("/link", "/%2e%2e/secret", "/litert/..%2f..%2f..%2fsecret", "/litert", "/bundle/manifest.json"):
            status, _, body = ask("GET", f"{url}{path}")
            assert status in (403, 404), path
            assert b"outside" not in body


def test_without_a_page_one_sentence_says_what_makes_it():
    with a_door() as (_, url):
        status, _, body = ask("GET", f"{url}/")
        assert (status, body.count(b"\n"), b"make web" in body) == (503, 1, True)


def test_every_answer_binds_the_browser(page):
    with a_door(site=Site(page, None)) as (_, url):
        for path in ("/", "/app.js", "/status", "/nowhere", "/rounds"):
            headers = ask("GET", f"{url}{path}")[1]
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "unsafe-inline" not in policy
            assert "'unsafe-eval'" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-cache"
            assert "Strict-Transport-Security" not in headers  # on localhost it would break what else listens there
            assert "aiohttp" not in headers["Server"]


def test_over_tls_a_browser_needs_no_certificate_and_is_told_to_come_by_tls_again(keys):
    tls = Tls.of_role(keys, SERVER)
    trusting = ssl.create_default_context(cafile=str(tls.ca))
    with WebDoor(Site(None, None)) as door:
        url = f"https://localhost:{door.listen('localhost:0', web_context(tls.chain, tls.key))}"
        status, headers, _ = ask("GET", f"{url}/status", ssl=trusting)
        assert status == 200
        assert "max-age" in headers["Strict-Transport-Security"]
        with pytest.raises(aiohttp.ClientConnectorCertificateError):  # whose CA is nobody's
            ask("GET", f"{url}/status")
        with pytest.raises(aiohttp.ClientError):
            ask("GET", url.replace("https", "http"))


def test_a_pair_that_is_none_is_named(keys, tmp_path):
    tls, other = Tls.of_role(keys, SERVER), Tls.of_client(keys, NAMES[0])
    with pytest.raises(KeysError, match="no certificate and its private key"):
        web_context(tls.chain, other.key)
    with pytest.raises(KeysError, match=r"missing\.pem"):
        web_context(tmp_path / "missing.pem", tls.key)


def test_a_port_that_can_t_be_had_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken, WebDoor(Site(None, None)) as door:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match="choose another --web"):
            door.listen(f"localhost:{port}", None)
        with pytest.raises(PortInUse, match="HOST:PORT"):
            door.listen("localhost", None)
        with pytest.raises(PortInUse, match="with TLS only"):
            door.listen("0.0.0.0:0", None)
        assert door.listen("localhost:0", None)


def test_a_slow_hand_at_tls_keeps_nobody_out(keys):
    tls = Tls.of_role(keys, SERVER)
    trusting = ssl.create_default_context(cafile=str(tls.ca))
    with WebDoor(Site(None, None)) as door:
        port = door.listen("localhost:0", web_context(tls.chain, tls.key))
        idle = [socket.create_connection(("localhost", port)) for _ in range(100)]
        assert ask("GET", f"https://localhost:{port}/status", ssl=trusting)[0] == 200
        for own in idle:
            own.close()


def test_localhost_is_reached_by_either_family():
    async def families(port):
        found = set()
        for family, *_, place in await asyncio.get_running_loop().getaddrinfo("localhost", port, type=1):
            _, writer = await asyncio.open_connection(place[0], port)
            found.add(family)
            writer.close()
        return found

    with WebDoor(Site(None, None)) as door:
        assert asyncio.run(families(door.listen("localhost:0", None)))
