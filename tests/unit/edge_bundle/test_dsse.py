"""The envelope: an independent verifier accepts it, and refuses what was changed."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives import serialization
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from edge.bundle.dsse import PAYLOAD_TYPE, open_envelope, pre_auth_encoding, seal
from edge.bundle.signing import generate_key
from edge.errors import BundleError

PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'


@pytest.fixture
def key(tmp_path):
    generate_key(tmp_path / "key")
    return tmp_path / "key"


def independent_key(key):
    public = serialization.load_pem_public_key(key.with_name("key.pub").read_bytes())
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return SSlibKey(hashlib.sha256(raw).hexdigest(), "ed25519", "ed25519", {"public": raw.hex()})


def test_pre_auth_encoding_is_the_specifications():
    encoded = pre_auth_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_auth_encoding("é", b"") == "DSSEv1 2 é 0 ".encode()


def test_an_independent_verifier_accepts_the_envelope(key):
    envelope = Envelope.from_dict(json.loads(seal(PAYLOAD, key)))
    assert envelope.payload == PAYLOAD
    assert envelope.payload_type == PAYLOAD_TYPE
    assert list(envelope.verify([independent_key(key)], 1)) == [independent_key(key).keyid]


def test_an_independent_verifier_refuses_what_was_changed(key, tmp_path):
    sealed = json.loads(seal(PAYLOAD, key))
    for name, value in (("payload", base64.b64encode(PAYLOAD + b" ").decode()), ("payloadType", "text/plain")):
        with pytest.raises(VerificationError):
            Envelope.from_dict({**json.loads(seal(PAYLOAD, key)), name: value}).verify([independent_key(key)], 1)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps({**sealed, name: value}))
        with pytest.raises(BundleError, match="bears no signature|is damaged"):
            open_envelope(path, key.with_name("key.pub"))


def test_our_own_check_tells_signers_apart(key, tmp_path):
    path = tmp_path / "envelope.json"
    path.write_bytes(seal(PAYLOAD, key))
    assert open_envelope(path, key.with_name("key.pub"))[0] == PAYLOAD
    assert "NOT checked" in open_envelope(path)[1]
    generate_key(tmp_path / "other")
    with pytest.raises(BundleError, match="bears no signature"):
        open_envelope(path, tmp_path / "other.pub")
    path.write_bytes(seal(PAYLOAD, None))
    assert open_envelope(path)[1] == "UNSIGNED"
    with pytest.raises(BundleError, match="bears no signature"):
        open_envelope(path, key.with_name("key.pub"))


def test_the_same_payload_and_key_give_the_same_bytes(key):
    assert seal(PAYLOAD, key) == seal(PAYLOAD, key)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"payloadType":"x","payload":"*","signatures":[]}'])
def test_a_damaged_envelope_is_told_in_a_line(tmp_path, content):
    path = tmp_path / "envelope.json"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="is damaged"):
        open_envelope(path)
