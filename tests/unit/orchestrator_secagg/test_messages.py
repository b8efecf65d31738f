"""The wire form: fixed, versioned, checked for length, and safe against any bytes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.secagg import messages
from orchestrator.secagg.errors import WireError
from orchestrator.wire import encode

NUM_FUZZED = 300  # inputs for each decoder and each way to make them
SESSION, KEY, SIGNATURE = b"s" * 32, b"k" * 32, b"g" * 64
EXAMPLES = {
    type(example): example
    for example in (
        messages.Invitation(KEY, 7, 2, 10, 9, 6, 3, 1_000),
        messages.Advertisement(SESSION, messages.Credentials(2, KEY, KEY, KEY, SIGNATURE)),
        messages.Roster(SESSION, 2, [messages.Credentials(i, KEY, KEY, KEY, SIGNATURE) for i in (1, 300)]),
        messages.SealedShares(SESSION, 2, KEY, [messages.SealedShare(1, b"c" * 94, b"t" * 32)]),
        messages.Delivery(SESSION, 2, [messages.DeliveredShare(1, b"c" * 94)]),
        messages.MaskedVector(SESSION, 2, memoryview(b"w" * 400)),
        messages.Survivors(SESSION, 2, b"\x05"),
        messages.Consent(SESSION, 2, SIGNATURE),
        messages.UnmaskRequest(SESSION, 2, [messages.PeerConsent(1, SIGNATURE)], [1, 3], [4]),
        messages.Unmasking(SESSION, 2, [messages.OwnedShare(1, b"h" * 33)], []),
    )
}


def _decode(wire: bytes, message_type):
    return messages.decode(wire, message_type, max_bytes=10_000)


MESSAGES = tuple(messages.Message.__subclasses__())


@pytest.fixture(params=MESSAGES, ids=lambda message_type: message_type.__name__)
def message(request):
    return EXAMPLES[request.param]


def test_every_message_comes_back_from_its_wire(message):
    assert _decode(encode(message), type(message)) == message


def test_the_wire_is_an_array_that_begins_with_type_and_version(message):
    first, *fields = msgspec.msgpack.decode(encode(message))
    assert first == f"secagg/1/{type(message).__name__}"
    assert len(fields) == len(type(message).__struct_fields__)


def test_the_wire_of_a_consent_is_pinned():
    """A change of these bytes is a change of the version."""
    wire = encode(EXAMPLES[messages.Consent])
    expected = b"\x94\xb0secagg/1/Consent\xc4\x20" + SESSION + b"\x02\xc4\x40" + SIGNATURE
    assert wire == expected


def test_another_version_is_refused(message):
    wire = encode(message)
    with pytest.raises(WireError):
        _decode(wire.replace(b"secagg/1/", b"secagg/2/"), type(message))


def test_another_type_is_refused(message):
    wire = encode(message)
    for other in MESSAGES:
        if other is not type(message):
            with pytest.raises(WireError, match=other.__name__):
                _decode(wire, other)


def test_every_truncation_and_any_trailing_byte_is_refused(message):
    wire = encode(message)
    for length in range(len(wire)):
        with pytest.raises(WireError):
            _decode(wire[:length], type(message))
    with pytest.raises(WireError):
        _decode(wire + b"\0", type(message))


def test_every_field_of_bytes_has_a_length(message):
    """One byte more or less in any field but a vector's words is refused."""
    fields = msgspec.structs.asdict(message)
    fixed = [name for name, value in fields.items() if isinstance(value, bytes) and name != "alive"]
    for name in fixed:
        for wrong in (fields[name][:-1], fields[name] + b"\0"):
            with pytest.raises(WireError):
                _decode(encode(msgspec.structs.replace(message, **{name: wrong})), type(message))


def test_a_field_too_many_or_too_few_is_refused(message):
    items = msgspec.msgpack.decode(encode(message))
    for wrong in (items[:-1], [*items, 0], []):
        with pytest.raises(WireError):
            _decode(msgspec.msgpack.encode(wrong), type(message))


@pytest.mark.parametrize("index", [-1, messages.MAX_CLIENTS, 2**40, 1.0, "1", None])
def test_numbers_out_of_range_are_refused(index):
    items = msgspec.msgpack.decode(encode(EXAMPLES[messages.Consent]))
    items[2] = index
    with pytest.raises(WireError):
        _decode(msgspec.msgpack.encode(items), messages.Consent)


def test_oversize_is_refused_before_it_is_parsed(message):
    wire = encode(message)
    with pytest.raises(WireError, match=f"{len(wire)} bytes, at most {len(wire) - 1} allowed"):
        messages.decode(wire, type(message), max_bytes=len(wire) - 1)


def test_a_length_that_the_bytes_do_not_have_allocates_nothing():
    claims_4_billion_entries = b"\x94\xafsecagg/1/Roster\xc4\x20" + SESSION + b"\x02\xdd\xff\xff\xff\xff"
    with pytest.raises(WireError):
        _decode(claims_4_billion_entries, messages.Roster)


def test_refusals_do_not_quote_the_bytes(message):
    secret = b"a secret that must not be told"
    wire = encode(message)[:-1] + secret
    with pytest.raises(WireError) as caught:
        _decode(wire, type(message))
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_no_repr_shows_a_field(message):
    assert repr(message) == f"{type(message).__name__}(...)"
    assert list(message.__rich_repr__()) == []


def test_words_are_a_view_of_the_wire():
    wire = encode(EXAMPLES[messages.MaskedVector])
    words = _decode(wire, messages.MaskedVector).words
    assert np.shares_memory(np.frombuffer(wire, np.uint8), np.frombuffer(words, np.uint8))


@settings(max_examples=NUM_FUZZED, deadline=None)
@given(wire=st.binary(max_size=400))
def test_fuzz_random_bytes(wire):
    for message_type in MESSAGES:
        with pytest.raises(WireError):
            _decode(wire, message_type)


@pytest.mark.parametrize("message_type", MESSAGES, ids=lambda message_type: message_type.__name__)
@settings(max_examples=NUM_FUZZED, deadline=None)
@given(data=st.data())
def test_fuzz_changed_messages(message_type, data):
    """Up to four bytes overwritten, inserted or cut: a message of the same lengths comes out, or WireError."""
    wire = bytearray(encode(EXAMPLES[message_type]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(wire) - 1, 0)))
        replacement = data.draw(st.binary(max_size=3))
        wire[place : place + data.draw(st.integers(0, 3))] = replacement
    try:
        message = _decode(bytes(wire), message_type)
    except WireError:
        return
    assert isinstance(message, message_type)
    assert _decode(encode(message), message_type) == message


@settings(max_examples=NUM_FUZZED, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    message_type=st.sampled_from(MESSAGES),
)
def test_fuzz_other_msgpack(value, message_type):
    """Well-formed msgpack of any other shape, bare and behind the right type and version."""
    for body in (value, [f"secagg/1/{message_type.__name__}", value, value]):
        with pytest.raises(WireError):
            _decode(msgspec.msgpack.encode(body), message_type)


def test_deep_nesting_is_refused():
    for message_type in MESSAGES:
        with pytest.raises(WireError):
            messages.decode(b"\x91" * 1_000_000, message_type, max_bytes=1 << 21)


@settings(max_examples=200, deadline=None)
@given(num_clients=st.integers(1, 300), data=st.data())
def test_bitmaps_come_back(num_clients, data):
    indices = data.draw(st.frozensets(st.integers(0, num_clients - 1)))
    bits = messages.to_bitmap(indices, num_clients)
    assert len(bits) == -(-num_clients // 8)
    assert messages.from_bitmap(bits, num_clients) == indices


@pytest.mark.parametrize(("bits", "num_clients"), [(b"\x20", 5), (b"", 5), (b"\1\0", 8), (b"\1", 9)])
def test_bitmaps_of_other_cohorts_are_refused(bits, num_clients):
    with pytest.raises(WireError, match=f"not one of {num_clients} clients"):
        messages.from_bitmap(bits, num_clients)


def test_the_session_names_every_parameter():
    invitation = EXAMPLES[messages.Invitation]
    changed = {"nonce": b"n" * 32, "round_num": 8, "num_clients": 11, "degree": 8, "threshold": 7}
    changed.update(min_survivors=4, num_slots=1_001)
    sessions = {msgspec.structs.replace(invitation, **{name: value}).session for name, value in changed.items()}
    assert len(sessions | {invitation.session}) == 1 + len(changed)
    assert msgspec.structs.replace(invitation, recipient=3).session == invitation.session
