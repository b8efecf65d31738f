"""What the web door hands out, and the headers around it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl

import aiohttp
import msgspec
import pytest
from loopback import NAMES, WORDS
from stand_in_bundle import FILES, TIME, manifest_of
from web_peer import a_door, ask

from edge.bundle.folder import write_bundle
from edge.bundle.manifest import RunEntry
from edge.errors import BundleError
from models.vocabulary import Vocabulary
from orchestrator.errors import ConfigError
from orchestrator.network.certificates import SERVER
from orchestrator.network.errors import KeysError, PortInUse
from orchestrator.network.tls import Tls, web_context
from orchestrator.network.web_door import WebDoor
from orchestrator.network.web_site import Bundle, Site
from orchestrator.settings.files import read_config


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
        assert "Strict-Transport-Security" not in headers  # it holds for every port: also where HTTP is spoken
        headers = ask("GET", f"{url}/status", headers={"Host": "phones.example"}, ssl=trusting)[1]
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


def config_that_fits(**changes):
    settings = {
        "model.vocabulary_size": 9, "model.embedding_size": 2, "model.num_cells": 3, "data.max_words": TIME,
        "client.batch_size": 16, "client.clip_norm": 1.0, "rounds.cohort_size": 5,
    }  # fmt: skip
    return read_config(overrides={**settings, **changes})


@pytest.fixture
def bundle(tmp_path):
    run = RunEntry(3, "w", "c", "people", "t", WORDS.digest)
    write_bundle(tmp_path / "bundle", FILES, msgspec.structs.replace(manifest_of(FILES), run=run))
    return tmp_path / "bundle"


def test_a_bundle_s_files_are_handed_out_by_the_names_in_its_manifest(bundle):
    with a_door(site=Site(None, Bundle.read(bundle))) as (_, url):
        for name in (*FILES, "manifest.json"):
            status, headers, body = ask("GET", f"{url}/bundle/{name}")
            assert (status, body) == (200, (bundle / name).read_bytes()), name
            assert headers["Content-Type"] == "application/octet-stream"  # whatever its name says it is
            assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert json.loads(ask("GET", f"{url}/status")[2])["bundle"] is True
        (bundle / "added").write_text("outside")
        for name in ("added", "SIGNATURE", "golden", "..%2fbundle%2fadded"):
            assert ask("GET", f"{url}/bundle/{name}")[0] == 404, name


def test_no_phone_gets_a_model_in_which_an_audit_hid_something(tmp_path):
    files = {**FILES, "AUDITED.txt": b"three phrases"}
    write_bundle(tmp_path / "audited", files, manifest_of(files))
    with pytest.raises(BundleError, match="audited: Trained to be audited, not to be used: see AUDITED.txt"):
        Bundle.read(tmp_path / "audited")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model.num_cells": 4}, "size of the model"),
        ({"data.max_words": TIME + 1}, "data.max_words"),
        ({"client.batch_size": 8}, "client.batch_size"),
        ({"client.clip_norm": 2.0}, "client.clip_norm"),
    ],
)
def test_a_bundle_of_another_run_is_refused_by_what_differs(bundle, changes, what):
    found = Bundle.read(bundle)
    found.require_fit(config_that_fits(), WORDS)
    with pytest.raises(ConfigError, match=f"a run of another {what}: "):
        found.require_fit(config_that_fits(**changes), WORDS)


def test_a_bundle_of_other_words_is_refused(bundle):
    other = Vocabulary((*WORDS.words[:-1], "other"))
    with pytest.raises(ConfigError, match="a run of another word list: "):
        Bundle.read(bundle).require_fit(config_that_fits(), other)


def test_a_bundle_from_before_browsers_could_train_is_refused(bundle, tmp_path):
    manifest = Bundle.read(bundle).manifest
    signatures = {**manifest.signatures, "train.tflite": {"train": manifest.signatures["train.tflite"]["train"]}}
    write_bundle(tmp_path / "old", FILES, msgspec.structs.replace(manifest, signatures=signatures))
    with pytest.raises(BundleError, match="export the run again"):
        Bundle.read(tmp_path / "old")
