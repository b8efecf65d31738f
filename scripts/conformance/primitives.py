"""primitives.json and graph.json: the cryptography of secure aggregation, masks, shares, and a cohort's degree."""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from conformance.draws import Draws
from orchestrator.errors import OrchestratorError
from orchestrator.masks import Mask, add_masks
from orchestrator.network import messages as network
from orchestrator.secagg import keys, messages, shamir
from orchestrator.secagg.graph import Policy, graph_parameters

SMALL_ORDER = (  # of Curve25519: 0, 1, and a point of order 8
    bytes(32),
    bytes([1, *bytes(31)]),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
)
_PRIME = 2**255 - 19
OTHER_WRITINGS = tuple(
    number.to_bytes(32, "little") for number in (_PRIME, _PRIME + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1)
)
LARGEST = ((_PRIME - 2).to_bytes(32, "little"), bytes([255, 0, *[255] * 29, 127]))  # below the prime, by little
POLICIES = {
    "default": Policy(),
    "drop-outs 0.1": Policy(dropout_share=0.1),
    "always drawn": Policy(complete_up_to=0, dropout_share=0.1),
    "semi-honest": Policy(semi_malicious=False, complete_up_to=10),
    "fewer bits": Policy(complete_up_to=0, security_bits=10, correctness_bits=10),
}
COHORTS = (*range(1, 40), 60, 90, 100, 101, 150, 200, 333, 500, 1000, 2000)


def primitives() -> dict[str, object]:
    """Returns the content of primitives.json."""
    draws = Draws("primitives")
    session, body = draws.draw(32), draws.draw(70)
    private, other = (X25519PrivateKey.from_private_bytes(draws.draw(32)) for _ in range(2))
    public, others = private.public_key().public_bytes_raw(), other.public_key().public_bytes_raw()
    shared = keys.exchange(private, others)
    identity = Ed25519PrivateKey.from_private_bytes(draws.draw(32))
    name = identity.public_key().public_bytes_raw()
    secret = draws.draw(32)
    with draws.used():
        sealed = keys.seal(body[:66], shared, session, 3, 258)
    nonce = draws.draw(32)
    return {
        "session": session.hex(),
        "sha256": [{"of": body[:n].hex(), "digest": hashlib.sha256(body[:n]).hexdigest()} for n in (0, 1, 70)],
        "derive": {"secret": secret.hex(), "info": body.hex(), "derived": keys.derive(secret, body).hex()},
        "x25519": {
            "private": private.private_bytes_raw().hex(), "public": public.hex(), "other": others.hex(),
            "shared": shared.hex(), "small_order": [key.hex() for key in SMALL_ORDER],
            "largest": [{"key": key.hex(), "shared": keys.exchange(private, key).hex()} for key in LARGEST],
            "other_writings": [key.hex() for key in OTHER_WRITINGS],
        },
        "ed25519": {
            "private": identity.private_bytes_raw().hex(), "public": name.hex(), "body": body.hex(),
            "signature": identity.sign(body).hex(),
        },
        "context": {
            "purpose": "pair mask", "parties": [1, 258], "bytes": keys.context(b"pair mask", session, 1, 258).hex(),
        },
        "pair_mask_seed": {"one": 258, "other": 1, "seed": keys.pair_mask_seed(shared, session, 258, 1).hex()},
        "self_mask_seed": {"secret": secret.hex(), "owner": 7, "seed": keys.self_mask_seed(secret, session, 7).hex()},
        "commitment": {"secret": secret.hex(), "owner": 7, "value": keys.commitment(secret, session, 7).hex()},
        "share_tag": {
            "share": body[:33].hex(), "owner": 7, "holder": 2, "tag": keys.share_tag(body[:33], session, 7, 2).hex(),
        },
        "seal": {
            "plain": body[:66].hex(), "channel": shared.hex(), "sender": 3, "to": 258, "nonce": sealed[:12].hex(),
            "sealed": sealed.hex(),
        },
        "masks": [_mask(draws.draw(16) + counter) for counter in (draws.draw(16), b"\xff" * 16)],
        "shamir": _shares(draws),
        "bitmaps": [
            {"indices": indices, "num_clients": size, "bits": messages.to_bitmap(indices, size).hex()}
            for indices, size in (([0, 3, 8], 9), ([], 8), (list(range(17)), 17))
        ],
        "bound_session": _bound(draws, session),
        "proof": {"nonce": nonce.hex(), "client_id": "zoë 7", "bytes": network.proof_bytes(nonce, "zoë 7").hex()},
    }  # fmt: skip


def _mask(seed: bytes) -> dict[str, object]:
    """A long mask, of which the digest and the last words are kept: its chunks and counters must join."""
    vector = np.zeros(150_001, np.uint32)
    add_masks(vector, [Mask(seed, 1)])
    octets = vector.astype("<u4").tobytes()
    return {
        "seed": seed.hex(), "num_words": vector.size, "first": vector[:4].tolist(), "last": vector[-4:].tolist(),
        "sha256": hashlib.sha256(octets).hexdigest(),
    }  # fmt: skip


def _shares(draws: Draws) -> dict[str, object]:
    points, first = [1, 2, 3, 7, 40, 1000, 1 << 20], len(draws.drawn) + 1
    secret = draws.draw(32)
    with draws.used():
        shares = shamir.split(secret, 5, points)
    drawn = [octets.hex() for octets in draws.drawn[first:]]
    return {
        "secret": secret.hex(), "threshold": 5, "points": points, "draws": drawn, "shares": [s.hex() for s in shares],
    }  # fmt: skip


def _bound(draws: Draws, session: bytes) -> dict[str, object]:
    everyone = [messages.Credentials(i, draws.draw(32), draws.draw(32), draws.draw(32), bytes(64)) for i in (2, 0)]
    agreed = draws.draw(32)
    return {
        "agreed": agreed.hex(),
        "everyone": [[p.index, p.identity.hex(), p.channel_key.hex(), p.mask_key.hex()] for p in everyone],
        "complete": messages.bound_session(session, agreed, everyone).hex(),
        "drawn": messages.bound_session(session, agreed, []).hex(),
    }


def graph() -> dict[str, object]:
    """Returns the content of graph.json: [cohort, degree, threshold], or [cohort] for one that the policy refuses."""
    return {
        name: {"policy": policy_fields(policy), "cohorts": [_parameters(size, policy) for size in COHORTS]}
        for name, policy in POLICIES.items()
    }


def policy_fields(policy: Policy) -> dict[str, object]:
    """Returns a policy's fields, but the limit that a run sets."""
    return {name: value for name, value in vars(policy).items() if name != "max_clients"}


def _parameters(size: int, policy: Policy) -> list[int]:
    try:
        found = graph_parameters(size, policy)
    except OrchestratorError:
        return [size]
    return [size, found.degree, found.threshold]
