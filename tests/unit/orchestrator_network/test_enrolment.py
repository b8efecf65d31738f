"""A client makes its own keys and is enrolled by a request: what leaves its machine, and what the operator refuses."""

from __future__ import annotations

import json
import os
import re
import shutil

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from loopback import NAMES, Peer, config_of, serving

from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import read_identity, read_roster
from orchestrator.network.enrolment import ask_for_enrolment, sign_request
from orchestrator.network.errors import KeysError
from orchestrator.network.requests import Request

pytestmark = pytest.mark.timeout(60)
HANDED_OUT = ("ca.pem", "roster.json", "decryptor_identity.pub")  # and tls/ID.pem


@pytest.fixture
def operator(tmp_path):
    folder = tmp_path / "operator"
    make_keys(folder, [])
    return folder


def hand_out(operator, client, name):
    for file in (*HANDED_OUT, f"tls/{name}.pem"):
        shutil.copyfile(operator / file, client / file)


def test_clients_with_keys_of_their_own_run_a_round(operator, tmp_path):
    folders = {name: tmp_path / name for name in NAMES}
    for name, folder in folders.items():
        sign_request(operator, ask_for_enrolment(folder, name)[0])
    for name, folder in folders.items():
        hand_out(operator, folder, name)
    with serving(operator, tmp_path, config_of()) as served:
        peers = [Peer(folder, served, name) for name, folder in folders.items()]
    assert [peer.join().goodbye for peer in peers] == ["all done"] * len(NAMES)
    assert list(served.rounds[0].survivors) == list(NAMES)


def test_no_private_key_leaves_the_client(operator, tmp_path):
    path, fingerprint = ask_for_enrolment(tmp_path / "ann", "ann")
    private = [tmp_path / "ann" / kind / "ann.key" for kind in ("clients", "tls")]
    assert {key.stat().st_mode & 0o777 for key in private} == {0o600}
    assert "PRIVATE" not in path.read_text()
    assert sign_request(operator, path) == ("ann", fingerprint, False)
    assert re.fullmatch(r"[0-9a-f]{4}( [0-9a-f]{4}){7}", fingerprint)
    assert not list(operator.rglob("ann.key"))
    public = read_identity(tmp_path / "ann", "ann").public_key().public_bytes_raw()
    assert read_roster(operator) == {"ann": public}
    certificate = x509.load_pem_x509_certificate((operator / "tls" / "ann.pem").read_bytes())
    tls_key = serialization.load_pem_private_key(private[1].read_bytes(), None)
    assert certificate.public_key() == tls_key.public_key()


def test_asking_again_keeps_the_keys_and_renews_the_certificate(operator, tmp_path):
    path, fingerprint = ask_for_enrolment(tmp_path / "ann", "ann")
    sign_request(operator, path)
    roster, chain = read_roster(operator), operator / "tls" / "ann.pem"
    first = chain.read_bytes()
    keys = {key: key.read_bytes() for key in tmp_path.joinpath("ann").rglob("*.key")}
    assert len(keys) == 2
    sign_request(operator, ask_for_enrolment(tmp_path / "ann", "ann")[0])
    assert {key: key.read_bytes() for key in keys} == keys
    assert read_roster(operator) == roster
    assert chain.read_bytes() != first


def test_an_old_request_does_not_bring_an_old_key_back(operator, tmp_path):
    """The key for TLS leaked, the client made another one, and somebody sends the request of before again."""
    folder, chain = tmp_path / "ann", operator / "tls" / "ann.pem"
    path, _ = ask_for_enrolment(folder, "ann")
    old = tmp_path / "old.json"
    shutil.copyfile(path, old)
    sign_request(operator, old)
    (folder / "tls" / "ann.key").unlink()
    ask_for_enrolment(folder, "ann")
    with pytest.raises(KeysError, match=r"tls/ann\.pem is for another key for TLS"):
        sign_request(operator, path)
    chain.unlink()  # after a look at the fingerprint
    sign_request(operator, path)
    newest = chain.read_bytes()
    with pytest.raises(KeysError, match="and this request may be an old one"):
        sign_request(operator, old)
    assert chain.read_bytes() == newest
    chain.write_text("damaged")
    with pytest.raises(KeysError, match="is for another key"):
        sign_request(operator, path)


def test_a_request_that_is_signed_twice_enrols_once(operator, tmp_path):
    path, fingerprint = ask_for_enrolment(tmp_path / "ann", "ann")
    assert sign_request(operator, path) == sign_request(operator, path) == ("ann", fingerprint, False)
    assert list(read_roster(operator)) == ["ann"]


def test_a_request_of_a_name_that_looks_like_another_s(operator, tmp_path):
    sign_request(operator, ask_for_enrolment(tmp_path / "ann", "ann")[0])
    with pytest.raises(KeysError, match="client Ann differs from client ann in upper and lower case only"):
        sign_request(operator, ask_for_enrolment(tmp_path / "Ann", "Ann")[0])
    for name in ("\u0430nn", "\uff41nn", "ann\u200b", "ann\n"):  # Cyrillic, wide, with something that nobody sees
        with pytest.raises(KeysError, match="can't be enrolled"):
            ask_for_enrolment(tmp_path / "other", name)
    assert list(read_roster(operator)) == ["ann"]


def test_a_name_or_keys_that_are_another_s(operator, tmp_path):
    sign_request(operator, ask_for_enrolment(tmp_path / "ann", "ann")[0])
    before = read_roster(operator)
    impostor, _ = ask_for_enrolment(tmp_path / "eve", "ann")
    with pytest.raises(KeysError, match="client ann is enrolled with other keys"):
        sign_request(operator, impostor)
    shutil.copyfile(tmp_path / "ann" / "clients" / "ann.key", tmp_path / "ann" / "clients" / "twin.key")
    with pytest.raises(KeysError, match="these keys are enrolled under another name"):
        sign_request(operator, ask_for_enrolment(tmp_path / "ann", "twin")[0])
    assert read_roster(operator) == before
    assert not (operator / "tls" / "twin.pem").exists()


def other_csr(name, key=None):
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    csr = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "bob"},
        {"client_id": "../ann"},
        {"identity": "11" * 32},
        {"identity": "11"},
        {"identity": "zz"},
        {"signature": "00" * 64},
        {"certificate_request": other_csr("ann")},  # of another key, as good as it looks
        {"certificate_request": other_csr("server")},
        {"certificate_request": "none"},
        {"schema": 2},
        {"more": 1},
        {"certificate_request": "A" * 20_000},
    ],
    ids=lambda change: " ".join(f"{name} {str(value)[:12]}" for name, value in change.items()),
)
def test_a_request_that_was_changed_on_its_way(operator, tmp_path, change):
    path, _ = ask_for_enrolment(tmp_path / "ann", "ann")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(KeysError) as caught:
        sign_request(operator, path)
    assert "\n" not in str(caught.value)
    assert not read_roster(operator)
    assert not list((operator / "tls").iterdir())


def test_a_request_that_nests_deeper_than_python_s_stack(operator, tmp_path):
    (tmp_path / "deep.json").write_text('{"more": ' + "[" * 5000)
    with pytest.raises(KeysError, match="is no request to enrol, or was changed"):
        sign_request(operator, tmp_path / "deep.json")


def test_a_certificate_for_another_name_or_a_key_of_another_kind(operator, tmp_path):
    """Signed by the client itself, who wants the certificate of somebody else."""
    ask_for_enrolment(tmp_path / "ann", "ann")
    identity = read_identity(tmp_path / "ann", "ann")
    for csr in (other_csr("bob"), other_csr("ann", ec.generate_private_key(ec.SECP384R1()))):
        public = identity.public_key().public_bytes_raw().hex()
        request = Request(schema=1, client_id="ann", identity=public, certificate_request=csr)
        request = msgspec.structs.replace(request, signature=identity.sign(request.signed_bytes).hex())
        path = tmp_path / "request.json"
        path.write_bytes(msgspec.json.encode(request))
        with pytest.raises(KeysError, match="is no request to enrol, or was changed"):
            sign_request(operator, path)


def test_a_request_s_file_that_is_none(operator, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeysError, match="is no request to enrol"):
            sign_request(operator, path)
