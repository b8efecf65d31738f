"""What a client over the network may send in place of an honest answer, well signed."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from orchestrator.homomorphic import messages as encrypted_messages
from orchestrator.network import messages
from orchestrator.secagg import messages as secagg_messages
from orchestrator.wire import encode

FALSE_SHARES = ("false commitment", "seals for nobody", "false tags", "seals for few")
FALSE_WORDS = ("random words", "weights that cancel", "nearly no weights")


def false_shares(lie, answer):
    """Shares that recover nothing, dealt by a client that is enrolled and signs what it says."""
    found = messages.decode(answer, messages.TO_SERVER)
    dealt = secagg_messages.decode(bytes(found.body), secagg_messages.SealedShares, len(answer))
    shares = dealt.shares
    changes = {
        "false commitment": {"commitment": bytes(32)},
        "seals for nobody": {"shares": [msgspec.structs.replace(s, sealed=bytes(len(s.sealed))) for s in shares]},
        "false tags": {"shares": [msgspec.structs.replace(s, tags=bytes(len(s.tags))) for s in shares]},
        "seals for few": {
            "shares": [*shares[:2], *(msgspec.structs.replace(s, sealed=bytes(len(s.sealed))) for s in shares[2:])]
        },
    }
    body = encode(msgspec.structs.replace(dealt, **changes[lie]))
    return encode(messages.Answer(found.round_num, found.stage, memoryview(body)))


def false_words(lie, answer, num_clients):
    """A masked vector of the right length that no update encodes to; each client's true weight is taken to be 1."""
    found = messages.decode(answer, messages.TO_SERVER)
    upload = secagg_messages.decode(bytes(found.body), secagg_messages.MaskedVector, len(answer))
    words = np.frombuffer(upload.words, "<u4").copy()
    if lie == "random words":
        words[:] = np.random.default_rng(0).integers(0, 2**32, words.size, np.uint32)
    else:
        one = 1 << 28  # the weight of one client, in steps: 29 bits, max_weight 1
        words[[-1]] += np.uint32(2**32 - num_clients * one + (lie == "nearly no weights"))  # an array wraps silently
    body = encode(msgspec.structs.replace(upload, words=memoryview(words.tobytes())))
    return encode(messages.Answer(found.round_num, found.stage, memoryview(body)))


def junk_upload(liar, answer):
    found = messages.decode(answer, messages.TO_SERVER)
    upload = encrypted_messages.decode(bytes(found.body), encrypted_messages.Upload, 1 << 20)
    junk = np.random.default_rng(0).bytes(len(upload.ciphertexts))
    signed = encrypted_messages.contribution_bytes(
        upload.terms, upload.client_id, hashlib.sha256(junk).digest(), liar._agreed
    )
    forged = msgspec.structs.replace(upload, ciphertexts=memoryview(junk), signature=liar._identity.sign(signed))
    body = memoryview(encode(forged))
    return encode(messages.Answer(found.round_num, found.stage, body))
