"""The C library takes and refuses the operator's rosters as Python does, under sanitizers."""

from __future__ import annotations

import json

import pytest
from c_peer import Refused, conformance

VECTORS = conformance("roster")
KEY, ROSTER_ID = (bytes.fromhex(VECTORS["operator"][name]) for name in ("key", "roster_id"))
OWN = bytes.fromhex(VECTORS["public_key"])
NUMBER = {case["lie"]: json.loads(case["content"]).get("number", 0) for case in VECTORS["refusals"]}


def opened(peer, content, seen=None, client_id=VECTORS["client_id"], key=OWN, starved_at=0):
    """(number, digest, helpers, {client: key}) of a roster that is taken."""
    kept = (seen["number"], bytes.fromhex(seen["digest"])) if seen else (0, b"")
    content = content if isinstance(content, bytes) else content.encode()
    number, digest, helpers, *clients = peer.ask("roster", content, KEY, ROSTER_ID, *kept, client_id, key, starved_at)
    return int(number), digest, helpers, dict(zip(clients[::2], clients[1::2]))


def test_the_operator_s_fingerprint(peer):
    assert peer.ask("fingerprint", KEY, ROSTER_ID) == [VECTORS["operator"]["fingerprint"].encode()]


@pytest.mark.parametrize("name", VECTORS["rosters"])
def test_what_the_operator_signs(peer, name):
    case = VECTORS["rosters"][name]
    expected = json.loads(case["content"])
    number, digest, helpers, clients = opened(peer, case["content"])
    assert (number, digest.hex()) == (expected["number"], case["digest"])
    assert helpers.hex() == "".join(expected.get("helpers", []))
    assert {name.decode(): key.hex() for name, key in clients.items()} == expected["clients"]


@pytest.mark.parametrize("case", VECTORS["taken"], ids=lambda case: case["lie"])
def test_a_roster_that_was_seen_or_is_newer_is_taken(peer, case):
    assert opened(peer, case["content"], case["seen"])[0] >= case["seen"]["number"]


@pytest.mark.parametrize("case", VECTORS["refusals"], ids=lambda case: case["lie"])
def test_the_rosters_that_a_client_refuses(peer, case):
    """Who was struck off remembers that, and takes no older roster; nothing else is remembered."""
    with pytest.raises(Refused) as caught:
        opened(peer, case["content"], case["seen"])
    assert (caught.value.name, str(caught.value)) == (case["error"], case["text"])
    before = case["seen"]["number"] if case["seen"] else 0
    assert int(caught.value.rest[0]) == (NUMBER[case["lie"]] if case["error"] == "NotOnRoster" else before)


MORE_DAMAGE = {
    "nothing": "", "no JSON": "{", "a list": "[]", "no object": "null", "deep": "[" * 100_000,
    "a field twice": VECTORS["rosters"]["one client and no helper"]["content"].replace("{", '{"schema": 2, ', 1),
    "a name twice": json.dumps({"schema": 1, "clients": {}}).replace(
        "{}", '{"ann": "' + "11" * 32 + '", "ann": "' + "22" * 32 + '"}'
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*VECTORS["damaged"], *MORE_DAMAGE])
def test_what_is_no_roster(peer, name):
    with pytest.raises(Refused, match="^the roster is damaged") as caught:
        opened(peer, {**VECTORS["damaged"], **MORE_DAMAGE}[name])
    assert caught.value.name == "KeysError"


def test_a_roster_of_before_is_one_that_nobody_signed(peer):
    with pytest.raises(Refused) as caught:
        opened(peer, json.dumps({"schema": 1, "clients": {"anna maria": "11" * 32}}))
    assert caught.value.name == "UnsignedRoster"


def test_no_allocation_fails_silently(peer):
    """Whichever allocation fails: the status says so, and nothing leaks."""
    content, names, allocation = VECTORS["rosters"]["some clients and a helper"]["content"], set(), 0
    while True:
        allocation += 1
        try:
            opened(peer, content, starved_at=allocation)
            break
        except Refused as error:
            names.add(error.name)
    assert names == {"NoMemory"}
    assert allocation > 4  # the roster, its clients, their names, and their keys to compare
