"""The keys of a run: who may read them, who is enrolled, and files that are missing or damaged."""

from __future__ import annotations

import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from loopback import NAMES, participant

from orchestrator.network.authority import make_keys, read_authority
from orchestrator.network.certificates import read_decryptor, read_helpers, read_identity, read_roster
from orchestrator.network.errors import (
    KeysError,
)

pytestmark = pytest.mark.timeout(60)


def test_private_keys_are_their_owner_s_alone(keys):
    private = [*keys.rglob("*.key")]
    assert len(private) == 7 + 2 * len(NAMES)
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}


def test_a_client_that_is_not_enrolled_is_told_how_it_can_be(keys):
    with pytest.raises(KeysError, match=rf"by --keys, or .* `fedkeys enrol --client-id nobody --keys {keys}`"):
        read_identity(keys, "nobody")


def test_more_clients_are_enrolled_and_the_rest_stays(tmp_path):
    make_keys(tmp_path, ["ann"])
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*") if path.name != "roster.json"}
    ann = read_roster(tmp_path)["ann"]
    make_keys(tmp_path, ["bob"])
    assert {path: path.read_bytes() for path in before} == before
    assert read_roster(tmp_path) == {
        "ann": ann,
        "bob": read_identity(tmp_path, "bob").public_key().public_bytes_raw(),
    }
    for again in (["bob"], ["eve", "eve"]):
        with pytest.raises(KeysError, match="is enrolled already"):
            make_keys(tmp_path, again)
    for change in ({"hosts": ["keyboard.example"]}, {"num_helpers": 2}):
        with pytest.raises(KeysError, match="its parties' keys already: name an empty folder"):
            make_keys(tmp_path, ["eve"], **change)
    assert set(read_roster(tmp_path)) == {"ann", "bob"}


@pytest.mark.parametrize("name", ["", "../ann", "a/b", ".ann", "anna maria", "ä", "a" * 65])
def test_a_name_that_can_t_be_a_file_s(tmp_path, keys, name):
    with pytest.raises(KeysError, match="can't be enrolled"):
        make_keys(tmp_path, [name])
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeysError):
        read_identity(keys, name)


def test_a_name_that_differs_in_upper_and_lower_case_only(tmp_path):
    """People take the two for one, and where the file system does, one's certificate takes the other's place."""
    make_keys(tmp_path, ["ann"])
    for names in (["Ann"], ["bob", "BOB"]):
        with pytest.raises(KeysError, match="differs from client [a-zA-Z]+ in upper and lower case only"):
            make_keys(tmp_path, names)
    assert set(read_roster(tmp_path)) == {"ann"}


@pytest.mark.parametrize("place", ["ca.key", "server.key", "clients/ann.key", "tls/ann.key"])
def test_a_private_key_s_place_that_is_taken_by_a_link_to_nowhere(tmp_path, place):
    path = tmp_path / "keys" / place
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeysError, match=rf"{place} is there already, of another making"):
        make_keys(tmp_path / "keys", ["ann"])
    assert not (tmp_path / "elsewhere").exists()


def test_keys_are_not_written_through_a_link(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "keys").mkdir()
    for name in ("ca.pem", "server.pem", "decryptor_identity.pub", "helpers.pub"):
        (tmp_path / "keys" / name).symlink_to(precious)
    make_keys(tmp_path / "keys", [])
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    "host",
    [
        "client.fedkeys.invalid",
        "*.fedkeys.invalid",
        "Server.FEDKEYS.invalid",
        "x.fedkeys.invalid.",
        "é.example",
        "a b",
        "",
    ],
)
def test_a_host_that_is_a_role_or_none(tmp_path, host):
    """The server's certificate would pass as a client's, or the decryptor's as the server's."""
    with pytest.raises(KeysError, match="is no name of a machine"):
        make_keys(tmp_path / "keys", [], [host])
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"schema": 1, "clients": {"ann": "zz"}}',
        b'{"schema": 1, "clients": {"ann": "00"}}',
        b'{"schema": 2, "clients": {}}',
        json.dumps({"schema": 1, "clients": {"ann": "11" * 32, "bob": "11" * 32}}).encode(),
    ],
)
def test_a_damaged_roster(tmp_path, content):
    (tmp_path / "roster.json").write_bytes(content)
    with pytest.raises(KeysError, match=r"roster\.json is damaged"):
        read_roster(tmp_path)


def test_key_files_that_are_missing_or_damaged(tmp_path):
    with pytest.raises(KeysError, match="make it with `fedkeys keygen"):
        read_roster(tmp_path)
    make_keys(tmp_path, ["ann"])
    (tmp_path / "clients" / "ann.key").write_bytes((tmp_path / "server.key").read_bytes())
    with pytest.raises(KeysError, match="holds no Ed25519 key"):
        read_identity(tmp_path, "ann")
    (tmp_path / "clients" / "ann.key").write_text("no key")
    with pytest.raises(KeysError, match="holds no private key"):
        read_identity(tmp_path, "ann")
    (tmp_path / "decryptor_identity.pub").write_text("no key")
    with pytest.raises(KeysError, match="is damaged"):
        read_decryptor(tmp_path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["roster.json", "ca.pem", "clients/ann.key"])
def test_a_pipe_in_a_key_s_place_is_refused_and_not_waited_for(tmp_path, name):
    make_keys(tmp_path, ["ann"])
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    readers = {
        "roster.json": read_roster,
        "ca.pem": read_authority,
        "clients/ann.key": lambda f: read_identity(f, "ann"),
    }
    with pytest.raises(KeysError, match="is no file: restore it"):
        readers[name](tmp_path)


@pytest.mark.parametrize("other", ["top bit", "small order", "twice"])
def test_helpers_whose_keys_are_not_different_and_sound(tmp_path, other):
    """Two writings of one key would be two helpers who are one."""
    make_keys(tmp_path, [], num_helpers=1)
    (key,) = read_helpers(tmp_path)
    second = {"top bit": key[:31] + bytes([key[31] | 0x80]), "small order": bytes(32), "twice": key}[other]
    (tmp_path / "helpers.pub").write_text(f"{key.hex()}\n{second.hex()}\n")
    with pytest.raises(KeysError, match=r"helpers\.pub is damaged"):
        read_helpers(tmp_path)


def test_a_host_of_its_own_is_in_the_certificates(tmp_path):
    from cryptography import x509

    make_keys(tmp_path, [], ["keyboard.example", "192.0.2.7"])
    for role in ("server", "decryptor"):
        certificate = x509.load_pem_x509_certificate((tmp_path / f"{role}.pem").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost", "keyboard.example", f"{role}.fedkeys.invalid"]
        assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "192.0.2.7"]


def test_no_secret_is_in_a_repr(keys):
    client = participant(keys, NAMES[0])
    secret = read_identity(keys, NAMES[0]).private_bytes_raw().hex()
    assert secret not in repr(client)
    assert isinstance(read_identity(keys, NAMES[0]), Ed25519PrivateKey)
