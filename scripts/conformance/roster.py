"""roster.json: who may take part, as the operator signs it, and the rosters that a client refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Optional

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from conformance.draws import Draws
from models.corpus import ClientId
from orchestrator.network.errors import UntrustedRoster
from orchestrator.network.roster import (
    Operator,
    Roster,
    Seen,
    decode_roster,
    require_listed,
    require_newest,
    require_signed,
    sign_roster,
)

KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(Draws(f"operator {i}").draw(32)) for i in range(2))
ROSTER_ID, OTHER_ID = (Draws(f"folder of keys {i}").draw(16) for i in range(2))
OPERATOR = Operator(KEY.public_key().public_bytes_raw(), ROSTER_ID)
ANN = ClientId("ann")
SMALL_ORDER = "01" + "00" * 31


def _public(name: str) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(Draws(f"enrolled {name}").draw(32)).public_key().public_bytes_raw()


def _helper(number: int) -> bytes:
    return X25519PrivateKey.from_private_bytes(Draws(f"helper {number}").draw(32)).public_key().public_bytes_raw()


def _signed(names: str, num_helpers: int = 1, number: int = 3, key: Ed25519PrivateKey = KEY) -> Roster:
    clients = {ClientId(name): _public(name) for name in names.split()}
    return sign_roster(Roster(clients, tuple(map(_helper, range(num_helpers))), ROSTER_ID, number), key)


WHOLE = _signed("zoe ann Bob")
ROSTERS = {
    "some clients and a helper": _signed("zoe ann Bob b.o-b_2 10"),
    "one client and no helper": _signed("ann", 0, 1),
    "all helpers and the last number": _signed("ann " + "n" * 64, 5, 2**32 - 1),
}
STRANGER = _public("mallory")
_NEXT = _signed("zoe ann", number=4)
_EXCHANGED = dict(zip(WHOLE.clients, [*WHOLE.clients.values()][::-1]))
REFUSED: dict[str, tuple[Roster, Optional[Roster]]] = {  # a lie: what comes, and what the client has seen before
    "no signature": (Roster(WHOLE.clients), None),
    "another folder's, well signed": (sign_roster(replace(WHOLE, roster_id=OTHER_ID), KEY), None),
    "another operator's": (_signed("ann bob", key=OTHER_KEY), None),
    "a client more": (replace(WHOLE, clients={**WHOLE.clients, ClientId("mallory"): STRANGER}), None),
    "a client less": (replace(WHOLE, clients={ANN: WHOLE.clients[ANN]}), None),
    "another key for a client": (replace(WHOLE, clients={**WHOLE.clients, ClientId("zoe"): STRANGER}), None),
    "two clients' keys exchanged": (replace(WHOLE, clients=_EXCHANGED), None),
    "another helper": (replace(WHOLE, helpers=(_helper(1),)), None),
    "no helper": (replace(WHOLE, helpers=()), None),
    "helpers in another order": (replace(ROSTERS["all helpers and the last number"], helpers=tuple(
        map(_helper, (1, 0, 2, 3, 4)))), None),
    "a higher number": (replace(WHOLE, number=4), None),
    "a signature of other bytes": (replace(WHOLE, signature=KEY.sign(b"")), None),
    "older than one that was seen": (WHOLE, _NEXT),
    "another of the same number": (_signed("ann zoe"), WHOLE),
    "without the client": (_signed("zoe Bob"), None),
    "with another key of the client": (sign_roster(replace(WHOLE, clients={ANN: STRANGER}), KEY), None),
}  # fmt: skip
TAKEN: dict[str, tuple[Roster, Optional[Roster]]] = {
    "the same again": (WHOLE, WHOLE),
    "a newer one": (_NEXT, WHOLE),
}


def roster() -> dict[str, object]:
    """Returns the file's content."""
    return {
        "operator": {
            "private": KEY.private_bytes_raw().hex(), "key": OPERATOR.key.hex(), "roster_id": OPERATOR.roster_id.hex(),
            "fingerprint": OPERATOR.fingerprint,
        },
        "client_id": ANN,
        "public_key": _public(ANN).hex(),
        "rosters": {name: _described(own) for name, own in ROSTERS.items()},
        "taken": [_verdict(name, *case) for name, case in TAKEN.items()],
        "refusals": [_verdict(name, *case) for name, case in REFUSED.items()],
        "damaged": {name: _damaged(change) for name, change in DAMAGED.items()},
    }  # fmt: skip


def _described(own: Roster) -> dict[str, str]:
    return {"content": own.to_json().decode(), "signed": own.signed_bytes.hex(), "digest": own.seen.digest.hex()}


def _verdict(name: str, own: Roster, before: Optional[Roster]) -> dict[str, object]:
    seen = None if before is None else before.seen
    kept = None if seen is None else {"number": seen.number, "digest": seen.digest.hex()}
    return {"lie": name, "content": own.to_json().decode(), "seen": kept, **_refusal(own.to_json(), seen)}


def _refusal(content: bytes, seen: Optional[Seen]) -> dict[str, str]:
    try:
        found = decode_roster(content)
        require_signed(found, OPERATOR)
        require_newest(found, seen)
        require_listed(found, ANN, _public(ANN))
    except UntrustedRoster as error:
        return {"error": type(error).__name__, "text": str(error)}
    return {}


DAMAGED: dict[str, Mapping[str, object]] = {
    "no schema": {"schema": None},
    "a schema to come": {"schema": 3},
    "signed, and of the schema of before": {"schema": 1},
    "no number": {"number": None},
    "number 0": {"number": 0},
    "a number too high": {"number": 2**32},
    "a negative number": {"number": -3},
    "half a number": {"number": 3.5},
    "a number as text": {"number": "3"},
    "no name of the folder": {"roster_id": ""},
    "half a name of the folder": {"roster_id": "00" * 8},
    "a signature too short": {"signature": "00" * 63},
    "a signature in capitals": {"signature": "AB" * 64},
    "no signature": {"signature": ""},
    "helpers that are no list": {"helpers": {}},
    "six helpers": {"helpers": [_helper(number).hex() for number in range(6)]},
    "a helper twice": {"helpers": [_helper(0).hex()] * 2},
    "a helper of small order": {"helpers": ["00" * 32]},
    "a helper in another writing": {"helpers": [_helper(0)[:31].hex() + f"{_helper(0)[31] | 0x80:02x}"]},
    "clients that are a list": {"clients": []},
    "no clients": {"clients": None},
    "a key of small order": {"clients": {"ann": SMALL_ORDER}},
    "a key of small order in another writing": {"clients": {"ann": SMALL_ORDER[:-2] + "80"}},
    "a key too short": {"clients": {"ann": "11" * 31}},
    "a key that is no text": {"clients": {"ann": 5}},
    "one key under two names": {"clients": {"ann": "11" * 32, "bob": "11" * 32}},
    "an empty name": {"clients": {"": "11" * 32}},
    "a name of a hidden file": {"clients": {".ann": "11" * 32}},
    "a name too long": {"clients": {"n" * 65: "11" * 32}},
    "a name with a line's end": {"clients": {"ann\n": "11" * 32}},
    "a name beyond ASCII": {"clients": {"zoë": "11" * 32}},
    "a field that nobody knows": {"more": 1},
}


def _damaged(change: Mapping[str, object]) -> str:
    """The content of a roster with some fields in place of its own; None takes one away."""
    fields = {**json.loads(ROSTERS["one client and no helper"].to_json()), **change}
    content = json.dumps({name: value for name, value in fields.items() if value is not None})
    try:
        decode_roster(content.encode())
    except ValueError:
        return content
    raise AssertionError(f"{change}: taken")
