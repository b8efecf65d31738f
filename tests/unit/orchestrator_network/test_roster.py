"""The operator signs who may take part; a client refuses every other roster, each by its name."""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import closing
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import (
    read_helpers,
    read_identity,
    read_operator,
    read_roster,
    read_signed_roster,
    read_signing_key,
    write_roster,
)
from orchestrator.network.errors import (
    ForeignRoster,
    ForgedRoster,
    ForkedRoster,
    KeysError,
    NotOnRoster,
    OldRoster,
    UnsignedRoster,
)
from orchestrator.network.journal import Journal
from orchestrator.network.own_keys import read_own_helpers, read_own_roster
from orchestrator.network.roster import Roster, decode_roster, new_operator, require_signed, sign_roster

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)


def public(key):
    return key.public_key().public_bytes_raw()


@pytest.fixture
def folder(tmp_path):
    make_keys(tmp_path, ["ann", "bob", "eve"])
    return tmp_path


def rewritten(folder, change):
    path = folder / "roster.json"
    described = json.loads(path.read_bytes())
    change(described)
    path.write_text(json.dumps(described))


def own(folder, client_id="ann", notes=None):
    notes = [] if notes is None else notes
    with closing(Journal(folder / "state" / f"{client_id}.json")) as journal:
        return read_own_roster(folder, client_id, read_identity(folder, client_id), journal, notes.append)


def test_the_bytes_that_are_signed_by_hand():
    helper = public(X25519PrivateKey.from_private_bytes(b"\x03" * 32))
    clients = {"zoe": public(OTHER), "a-1": public(KEY)}
    by_hand = (
        b"fedkeys network 1 roster\0" + b"\x09" * 16 + b"\0\0\0\x07" + b"\x01" + helper + b"\0\0\0\x02"
        b"\x03a-1" + public(KEY) + b"\x03zoe" + public(OTHER)
    )  # fmt: skip
    roster = sign_roster(Roster(clients, (helper,), b"\x09" * 16, 7), KEY)
    assert roster.signed_bytes == by_hand
    KEY.public_key().verify(roster.signature, by_hand)
    assert decode_roster(roster.to_json()) == roster
    assert roster.seen.digest == hashlib.sha256(by_hand).digest()


def test_a_fingerprint_by_hand():
    operator = new_operator(KEY)
    digest = hashlib.sha256(b"fedkeys network 1 operator\0" + public(KEY) + operator.roster_id).hexdigest()
    assert operator.fingerprint == digest[:32]


def test_no_two_rosters_have_the_same_bytes():
    """Where a name ends and a key begins, and a helper is no client."""
    keys = [bytes([number]) * 32 for number in range(1, 4)]
    some = [
        Roster({"ab": keys[0]}), Roster({"a": keys[0]}), Roster({"a": keys[0], "b": keys[1]}),
        Roster({"a": keys[1], "b": keys[0]}), Roster({"a": keys[0]}, (keys[1],)), Roster({}, (keys[1], keys[0])),
        Roster({}, (keys[0], keys[1])), Roster({}, (), b"\x01" * 16), Roster({}, (), b"\x01" * 16, 1),
    ]  # fmt: skip
    assert len({roster.signed_bytes for roster in some}) == len(some)


def test_keygen_signs_and_counts_only_what_changes(folder):
    operator, first = read_operator(folder), read_signed_roster(folder)
    assert (first.number, first.roster_id) == (1, operator.roster_id)
    assert first.helpers == read_helpers(folder)
    require_signed(first, operator)
    make_keys(folder, [])
    assert read_signed_roster(folder) == first
    make_keys(folder, ["joe"])
    assert read_signed_roster(folder).number == 2


@pytest.mark.parametrize(
    ("change", "refusal", "text"),
    [
        (lambda r: r["clients"].update(mallory=public(OTHER).hex()), ForgedRoster, "was changed, or somebody else"),
        (lambda r: r.update(helpers=[]), ForgedRoster, "was changed"),
        (lambda r: r.update(helpers=[public(X25519PrivateKey.generate()).hex()]), ForgedRoster, "was changed"),
        (lambda r: r.update(roster_id="00" * 16), ForeignRoster, "of another run's keys"),
        (lambda r: [r.pop(name) for name in ("roster_id", "number", "helpers", "signature")] and r.update(schema=1),
         UnsignedRoster, "is not signed, and this client knows"),
    ],
)  # fmt: skip
def test_a_roster_that_the_operator_did_not_sign(folder, change, refusal, text):
    rewritten(folder, change)
    with pytest.raises(refusal, match=f"^the roster .*{text}.*: ask the operator for the newest one$") as refused:
        own(folder)
    assert refused.value.exit_code == 3
    assert not (folder / "state" / "ann.json").exists()  # nothing of it is remembered


def test_the_whole_roster_of_another_folder(folder, tmp_path_factory):
    """It is well signed: by another operator, or by the same for another folder."""
    theirs = tmp_path_factory.mktemp("theirs")
    make_keys(theirs, ["ann"])
    content = (theirs / "roster.json").read_bytes()
    (folder / "roster.json").write_bytes(content)
    with pytest.raises(ForeignRoster):
        own(folder)
    relabelled = json.loads(content)
    relabelled["roster_id"] = read_operator(folder).roster_id.hex()
    (folder / "roster.json").write_text(json.dumps(relabelled))
    with pytest.raises(ForgedRoster):
        own(folder)


def test_an_older_roster_is_refused_also_after_a_restart(folder):
    old = (folder / "roster.json").read_bytes()
    write_roster(folder, {name: key for name, key in read_roster(folder).items() if name != "eve"})
    own(folder)
    (folder / "roster.json").write_bytes(old)  # eve is back
    for _ in range(2):
        with pytest.raises(OldRoster, match="^the roster is number 1, this client has seen number 2"):
            own(folder)
    own(folder, "bob")  # who has not seen the newer one


def test_two_rosters_of_one_number(folder):
    own(folder)
    first = read_signed_roster(folder)
    key = read_signing_key(folder / "operator.key")
    other = sign_roster(Roster({**first.clients, "joe": public(OTHER)}, first.helpers, first.roster_id, 1), key)
    (folder / "roster.json").write_bytes(other.to_json())
    with pytest.raises(ForkedRoster, match="^the operator signed two rosters as number 1"):
        own(folder)


def test_an_operator_can_t_spend_another_s_numbers(folder):
    """A client with one journal for two folders of keys: the name of the one is no secret to the other's operator."""
    theirs, ours = new_operator(OTHER), read_operator(folder)
    high = sign_roster(Roster({}, (), ours.roster_id, 2**32 - 1), OTHER)
    with closing(Journal(folder / "state" / "ann.json")) as journal:
        journal.see(high, replace(theirs, roster_id=ours.roster_id))
    own(folder)


def test_a_roster_without_the_client_is_refused_and_remembered(folder):
    """Who was struck off takes no older roster that still has it."""
    old = (folder / "roster.json").read_bytes()
    write_roster(folder, {name: key for name, key in read_roster(folder).items() if name != "ann"})
    with pytest.raises(NotOnRoster, match="^the roster has no client ann: ask the operator to enrol it$"):
        own(folder)
    (folder / "roster.json").write_bytes(old)
    with pytest.raises(OldRoster):
        own(folder)


def test_a_roster_with_another_key_of_the_client(folder):
    write_roster(folder, {**read_roster(folder), "ann": public(OTHER)})
    with pytest.raises(NotOnRoster, match="^the roster's key of client ann is not this client's"):
        own(folder)


def test_what_a_client_says_of_its_roster(folder):
    notes = []
    own(folder, notes=notes)
    digits = read_operator(folder).fingerprint
    grouped = " ".join(digits[start : start + 4] for start in range(0, 32, 4))
    assert notes == [f"roster 1: 3 clients, signed by operator {grouped}"]
    (folder / "operator.pub").unlink()
    own(folder, notes=notes)
    assert notes[1].startswith("the roster's signature is not checked: operator.pub is not here")


def test_a_folder_of_before_goes_on_and_says_so_until_keygen_signs(folder):
    """As fedkeys 0.1 wrote it, byte for byte."""
    for name in ("operator.key", "operator.pub"):
        (folder / name).unlink()
    clients = read_roster(folder)
    of_before = {"schema": 1, "clients": {name: key.hex() for name, key in clients.items()}}
    content = (json.dumps(of_before, indent=2) + "\n").encode()
    (folder / "roster.json").write_bytes(content)
    write_roster(folder, read_roster(folder))  # as a server does whose folder has no operator
    assert (folder / "roster.json").read_bytes() == content
    notes = []
    assert own(folder, notes=notes).clients == clients
    assert notes == ["the roster is not signed, as by fedkeys of before: whoever passes it on can change it"]
    make_keys(folder, ["joe"])
    signed = read_signed_roster(folder)
    require_signed(signed, read_operator(folder))
    assert (set(signed.clients), signed.number) == ({*clients, "joe"}, 1)


def test_without_the_operator_s_key_nothing_is_signed_anew(folder):
    before = (folder / "roster.json").read_bytes()
    key = (folder / "operator.key").read_bytes()
    (folder / "operator.key").unlink()
    with pytest.raises(KeysError, match=r"operator\.key: No such file"):
        write_roster(folder, {})
    (folder / "operator.key").write_bytes((folder / "decryptor_identity.key").read_bytes())
    with pytest.raises(KeysError, match=r"operator\.key is not the key of .*operator\.pub"):
        write_roster(folder, {})
    assert (folder / "roster.json").read_bytes() == before
    (folder / "operator.key").write_bytes(key)
    write_roster(folder, {})
    assert read_roster(folder) == {}


SMALL = "01" + "00" * 31
NAMELESS = {"schema": 2, "roster_id": "11" * 16, "number": 1, "signature": "22" * 64}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"[" * 100_000, "it is no roster"),
        (b'{"schema": 1, "clients": {"\xff": ""}}', "it is no roster"),
        ({"schema": 1, "clients": {"ann": SMALL}}, "the key of client ann is of small order"),
        ({**NAMELESS, "clients": {"ann": SMALL[:-2] + "80"}}, "the key of client ann is of small order"),
        ({**NAMELESS, "clients": {}, "helpers": ["00" * 32]}, "a helper is of small order"),
        ({**NAMELESS, "clients": {}, "helpers": ["ff" * 32]}, "another's in a second writing"),
        ({**NAMELESS, "clients": {}, "helpers": ["09" * 32] * 2}, "a key stands there twice"),
        ({**NAMELESS, "clients": {}, "helpers": [f"{n:02x}" * 32 for n in range(9, 15)]}, "it is no roster"),
        ({**NAMELESS, "clients": {"an\u00e9": "33" * 32}}, "a name is none of a client"),
        ({**NAMELESS, "clients": {"ann": "AB" * 32}}, "it is no roster"),
        ({**NAMELESS, "clients": {}, "number": 0}, "a field is missing"),
        ({**NAMELESS, "clients": {}, "roster_id": ""}, "a field is missing"),
        ({**NAMELESS, "clients": {}, "signature": ""}, "a field is missing"),
        ({**NAMELESS, "clients": {}, "schema": 1}, "of another schema"),
        ({"schema": 1, "clients": {}, "helpers": ["09" * 32]}, "of another schema"),
        ({"schema": 2, "clients": {}}, "of another schema"),
    ],
)  # fmt: skip
def test_what_is_no_roster(folder, content, text):
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(ValueError, match=text):
        decode_roster(content)
    (folder / "roster.json").write_bytes(content)
    with pytest.raises(KeysError, match=r"roster\.json is damaged"):
        own(folder)


@pytest.mark.parametrize("line", ["", "00", SMALL, f"{SMALL} {'11' * 16}", f"{'11' * 32} {'11' * 15}", "\u00e9"])
def test_an_operator_s_key_that_can_t_be_one(folder, line):
    (folder / "operator.pub").write_text(line)
    with pytest.raises(KeysError, match=r"operator\.pub is damaged"):
        own(folder)


def test_a_link_to_nowhere_is_no_folder_of_before(folder):
    (folder / "operator.pub").unlink()
    (folder / "operator.pub").symlink_to(folder / "nowhere")
    with pytest.raises(KeysError, match="No such file"):
        own(folder)


def test_the_helpers_that_a_client_seals_for_are_those_that_the_operator_signed(folder):
    roster = own(folder)
    assert read_own_helpers(folder, roster) == read_helpers(folder) == roster.helpers
    (folder / "helpers.pub").write_text(public(X25519PrivateKey.generate()).hex() + "\n")
    with pytest.raises(KeysError, match="names other helpers than the roster"):
        read_own_helpers(folder, roster)


def test_a_signature_for_another_purpose_is_none_for_a_roster(folder):
    """Nor is one of before the prefix: each purpose's bytes begin with its name."""
    roster = read_signed_roster(folder)
    key = read_signing_key(folder / "operator.key")
    bare = roster.signed_bytes[len(b"fedkeys network 1 roster\0") :]
    for purpose in (b"", b"fedkeys network 1 join\0", b"fedkeys network 1 operator\0"):
        forged = Roster(roster.clients, roster.helpers, roster.roster_id, roster.number, key.sign(purpose + bare))
        with pytest.raises(ForgedRoster):
            require_signed(forged, read_operator(folder))
    assert struct.unpack(">I", bare[16:20]) == (roster.number,)
