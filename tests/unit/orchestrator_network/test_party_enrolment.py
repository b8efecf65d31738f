"""Decryptor and helpers make their own keys and are enrolled by requests: what the operator holds and refuses."""

from __future__ import annotations

import json
import shutil

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from loopback import NAMES, Peer, config_of, decrypting, serving

from orchestrator.cli.keys import enrol, keygen
from orchestrator.errors import BelowThreshold
from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import read_decryptor, read_helpers
from orchestrator.network.decryptor import RemoteDecryptor
from orchestrator.network.enrolment import ask_as_party, ask_for_enrolment, parties_of, sign_request
from orchestrator.network.errors import KeysError
from orchestrator.network.helper import RemoteHelper, helper_service
from orchestrator.network.requests import Request

pytestmark = pytest.mark.timeout(60)


def enrolled_parties(tmp_path, numbers):
    """The operator's folder and those of parties that made their keys themselves, with what the operator hands out."""
    folders = {("decryptor" if n is None else f"helper-{n}"): tmp_path / f"party{n}" for n in numbers}
    requests = [ask_as_party(folder, number)[0] for number, folder in zip(numbers, folders.values())]
    operator = tmp_path / "operator"
    make_keys(operator, NAMES, asking=parties_of(requests))
    for path in requests:
        sign_request(operator, path)
    for role, folder in folders.items():
        for name in ("ca.pem", "roster.json", "decryptor_identity.pub", "helpers.pub", f"{role}.pem"):
            shutil.copyfile(operator / name, folder / name)
    return operator, folders


def test_a_decryptor_with_keys_of_its_own_opens_sums_and_the_operator_has_none_of_them(tmp_path):
    operator, folders = enrolled_parties(tmp_path, [None])
    decryptor, config = folders["decryptor"], config_of(**{"aggregation.aggregator": "encrypted"})
    assert not list(operator.glob("decryptor*.key"))
    assert {key.stat().st_mode & 0o777 for key in decryptor.glob("*.key")} == {0o600}
    assert "PRIVATE" not in (decryptor / "decryptor.request.json").read_text()
    with (
        decrypting(decryptor) as (address, _),
        serving(operator, tmp_path, config, RemoteDecryptor(address, operator)) as served,
    ):
        peers = [Peer(operator, served, name, aggregator="encrypted") for name in NAMES]
    assert [peer.join().goodbye for peer in peers] == ["all done"] * len(NAMES)
    assert list(served.rounds[0].survivors) == list(NAMES)


def test_helpers_with_keys_of_their_own_answer_the_server_and_the_operator_has_none_of_them(tmp_path):
    operator, folders = enrolled_parties(tmp_path, [2, None, 1])
    assert sorted(path.name for path in operator.glob("*.key")) == ["ca.key", "operator.key", "server.key"]
    for number in (1, 2):
        folder = folders[f"helper-{number}"]
        service = helper_service(folder, number, tmp_path / f"{number}.sqlite", 2, print)
        remote = RemoteHelper(f"localhost:{service.listen('localhost:0')}", operator, number, 10.0)
        with pytest.raises(BelowThreshold, match="opens nothing"):
            remote.open(b"no list")
        service.stop()


def test_a_party_s_certificate_is_renewed_and_its_key_never_replaced(tmp_path):
    operator, folders = enrolled_parties(tmp_path, [None, 1])
    for number, role in ((None, "decryptor"), (1, "helper-1")):
        before = (operator / f"{role}.pem").read_bytes()
        path, fingerprint, _ = ask_as_party(folders[role], number)
        assert sign_request(operator, path) == (role, fingerprint, True)
        assert (operator / f"{role}.pem").read_bytes() != before
        other, _, _ = ask_as_party(tmp_path / "other", number)
        with pytest.raises(KeysError, match=f"has another key of {role}, which its clients may have"):
            sign_request(operator, other)
    third, _, _ = ask_as_party(tmp_path / "third", 3)
    with pytest.raises(KeysError, match="has another key of helper-3"):
        sign_request(operator, third)


def test_requests_of_parties_that_make_no_run(tmp_path):
    first, second = (ask_as_party(tmp_path / name, None)[0] for name in ("one", "two"))
    with pytest.raises(KeysError, match="another request of decryptor is named, too"):
        parties_of([first, second])
    alone = parties_of([ask_as_party(tmp_path / "three", 2)[0]])
    with pytest.raises(KeysError, match="helper-1 has no request: sign those of all helpers"):
        make_keys(tmp_path / "operator", [], asking=alone)


@pytest.mark.parametrize("number", [None, 1])
@pytest.mark.parametrize(
    "change",
    [
        {"identity": "22" * 32}, {"identity": "00" * 32}, {"party": "helper-2"}, {"party": "server"},
        {"party": "client"}, {"party": "helper-6"}, {"party": "", "client_id": "decryptor"},
        {"party": "", "client_id": "helper-1"},
        {"client_id": "ann"}, {"signature": ""}, {"signature": "00" * 64}, {"schema": 2},
    ],
)  # fmt: skip
def test_a_party_s_request_that_was_changed(tmp_path, number, change):
    path, _, _ = ask_as_party(tmp_path, number)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(KeysError, match="is no request to enrol, or was changed"):
        parties_of([path])


def test_a_client_s_request_is_no_party_s(tmp_path):
    """What a client signs is valid for nothing else, whatever it is called."""
    path, _ = ask_for_enrolment(tmp_path, "decryptor")
    assert parties_of([path]) == {}
    path.write_text(path.read_text().replace("client_id", "party"))
    with pytest.raises(KeysError, match="is no request to enrol, or was changed"):
        parties_of([path])


def test_a_helper_s_key_that_everybody_can_open_is_refused(tmp_path):
    """Of small order: a seed that is sealed for it is sealed for nobody in particular."""
    path, _, _ = ask_as_party(tmp_path, 1)
    request = msgspec.json.decode(path.read_bytes(), type=Request)
    tls = serialization.load_pem_private_key((tmp_path / "helper-1.key").read_bytes(), None)
    request = msgspec.structs.replace(request, identity=bytes(32).hex())
    signature = tls.sign(request.signed_bytes, ec.ECDSA(hashes.SHA256())).hex()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(request, signature=signature)))
    with pytest.raises(KeysError, match="is no request to enrol, or was changed"):
        parties_of([path])


def test_a_decryptor_finds_out_that_clients_encrypt_for_another(tmp_path):
    """The operator hands out the public key of a decryptor of its own."""
    operator, folders = enrolled_parties(tmp_path, [None])
    make_keys(tmp_path / "other", [])
    shutil.copyfile(tmp_path / "other" / "decryptor_identity.pub", folders["decryptor"] / "decryptor_identity.pub")
    with pytest.raises(KeysError, match="is of another decryptor"), decrypting(folders["decryptor"]):
        pass
    with pytest.raises(KeysError, match="is of another key than the private one beside it"):
        ask_as_party(folders["decryptor"], None)


def test_the_commands_say_who_holds_what(tmp_path):
    """A folder that can open sums says so when it is made; one whose parties made their keys holds nothing to say."""

    def run(command, *words):
        done = CliRunner().invoke(command, [*map(str, words), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    made = run(keygen, "--out", tmp_path / "trial", "--client", "ann")
    assert made["party_keys"] == ["decryptor", "helper-1"]
    said = CliRunner().invoke(keygen, ["--out", str(tmp_path / "said"), "--client", "ann"]).stdout
    assert "holds the private keys of decryptor, helper-1: for a trial only" in said
    asked = [run(enrol, "--decryptor", "--keys", tmp_path / "d"), run(enrol, "--helper", 1, "--keys", tmp_path / "h")]
    ann = run(enrol, "--client-id", "decryptor", "--keys", tmp_path / "ann")  # a name like any other
    signing = [word for request in (*asked, ann) for word in ("--sign", request["request"])]
    own = run(keygen, "--out", tmp_path / "own", *signing)
    assert own["party_keys"] == []
    assert list(own["party_fingerprints"].values()) == [request["fingerprint"] for request in asked]
    assert own["fingerprints"] == {"decryptor": ann["fingerprint"]}
    assert read_decryptor(tmp_path / "own").hex() == asked[0]["key"]
    assert [key.hex() for key in read_helpers(tmp_path / "own")] == [asked[1]["key"]]
