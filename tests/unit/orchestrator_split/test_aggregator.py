"""The aggregator adds what clients signed, and takes off the masks that the helpers answer with."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from split_round import AGREED, NAMES, NUM_SLOTS, Parties, changed, opened, words_of

from orchestrator.errors import BelowThreshold
from orchestrator.split import messages
from orchestrator.split.errors import (
    BadSignature,
    DuplicateContribution,
    ForeignRound,
    MalformedMessage,
    UnknownClient,
)


@pytest.mark.parametrize("num_helpers", [1, 2, 5])
def test_the_total_is_the_sum_modulo_two_to_the_32(num_helpers):
    parties = Parties(num_helpers)
    aggregator = parties.total()
    answers = [helper.open(request) for helper, request in zip(parties.helpers, aggregator.requests())]
    assert aggregator.finish(answers).tolist() == parties.sum_of(NAMES)
    assert aggregator.members == NAMES


def test_without_one_helper_s_masks_the_total_says_nothing():
    """Each helper's masks hide each vector by themselves: the rest may collude."""
    parties = Parties(3)
    aggregator = parties.total()
    answers = [helper.open(request) for helper, request in zip(parties.helpers, aggregator.requests())]
    zeros = changed(answers[1], messages.MaskSum, words=memoryview(bytes(4 * NUM_SLOTS)))
    without = aggregator.finish([answers[0], zeros, answers[2]])
    difference = without - np.array(parties.sum_of(NAMES), np.uint32)
    assert difference.tolist() == words_of(answers[1]).tolist()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"words": memoryview(bytes(4 * NUM_SLOTS))}, BadSignature),  # a masked vector that is not the signed one
        ({"words": memoryview(bytes(4 * NUM_SLOTS - 4))}, MalformedMessage),
        ({"words": memoryview(bytes(4 * NUM_SLOTS + 4))}, MalformedMessage),
        ({"signature": bytes(64)}, BadSignature),
        ({"sealed": [bytes(messages.SEALED_BYTES)]}, BadSignature),
        ({"sealed": [bytes(messages.SEALED_BYTES)] * 2}, MalformedMessage),
        ({"client_id": NAMES[1]}, BadSignature),
        ({"client_id": "stranger"}, UnknownClient),
        ({"terms": bytes(32)}, ForeignRound),
        ({"version": 6}, ForeignRound),
    ],
)
def test_an_upload_that_its_client_did_not_send_for_this_round_is_refused(fields, error):
    parties = Parties()
    aggregator, wire = parties.aggregator(), parties.upload(NAMES[0])
    with pytest.raises(error):
        aggregator.check(changed(wire, messages.Upload, **fields))
    assert aggregator.members == ()
    assert aggregator.check(wire).client_id == NAMES[0]


def test_uploads_of_another_round_run_or_model_are_refused():
    parties = Parties()
    aggregator = parties.aggregator()
    for terms in (parties.terms(round_num=8), parties.terms(run=b"s" * 32), parties.terms(min_contributions=3)):
        with pytest.raises(ForeignRound):
            aggregator.check(parties.upload(NAMES[0], terms))
    with pytest.raises(BadSignature):
        aggregator.check(parties.upload(NAMES[0], agreed=b"b" * 32))


def test_a_client_is_added_once():
    parties = Parties()
    aggregator = parties.total(NAMES[:2])
    first, second = (parties.upload(NAMES[2]) for _ in range(2))
    checked = [aggregator.check(first), aggregator.check(second)]
    aggregator.add(checked[0])
    with pytest.raises(DuplicateContribution):
        aggregator.add(checked[1])
    with pytest.raises(DuplicateContribution):
        aggregator.check(second)
    requests = aggregator.requests()
    late = parties.aggregator().check(parties.upload(NAMES[3]))
    with pytest.raises(ForeignRound, match="after the list went to the helpers"):
        aggregator.add(late)
    answers = [helper.open(request) for helper, request in zip(parties.helpers, requests)]
    assert aggregator.finish(answers).tolist() == parties.sum_of(NAMES[:3])


def test_too_few_go_to_no_helper():
    with pytest.raises(BelowThreshold, match="^round 7: 1 contributions, 2 needed$"):
        Parties().total(NAMES[:1]).requests()


def test_a_helper_s_answer_of_another_round_list_or_helper_is_refused():
    parties = Parties(2)
    aggregator, earlier = parties.total(), parties.total(terms=parties.terms(round_num=6))
    old = [helper.open(request) for helper, request in zip(parties.helpers, earlier.requests())]
    requests = aggregator.requests()
    first, second = (helper.open(request) for helper, request in zip(parties.helpers, requests))
    for answers, error in (
        ([old[0], second], ForeignRound),
        ([second, first], ForeignRound),
        ([first], ForeignRound),
        ([first, changed(second, messages.MaskSum, request_sha256=bytes(32))], ForeignRound),
        ([first, changed(second, messages.MaskSum, terms=bytes(32))], ForeignRound),
        ([first, changed(second, messages.MaskSum, words=memoryview(bytes(4)))], MalformedMessage),
        ([first, b"no answer"], MalformedMessage),
    ):
        with pytest.raises(error):
            aggregator.finish(answers)
    assert aggregator.finish([first, second]).tolist() == parties.sum_of(NAMES)


def test_a_helper_is_shown_no_vector_and_no_seed_of_another_helper():
    """What it receives is as long for any vector, and holds of the others' seeds the digests."""
    parties, longer = Parties(2), Parties(2, num_slots=1000)
    for_first, for_second = parties.total().requests()
    assert abs(len(longer.total().requests()[0]) - len(for_first)) <= 2  # the number of slots
    for mine, theirs in zip(*(opened(wire, messages.MaskRequest).contributions for wire in (for_first, for_second))):
        assert theirs.sealed not in for_first
        assert mine.seals == theirs.seals


def test_in_fedbuff_each_client_names_its_model_and_each_model_has_one_digest():
    parties = Parties()
    terms = parties.terms(max_staleness=2)
    told = {7: AGREED, 6: b"6" * 32, 5: b"5" * 32}
    aggregator = parties.aggregator(terms, {**told, 4: b"4" * 32})
    versions = {NAMES[0]: 7, NAMES[1]: 5, NAMES[2]: 7, NAMES[3]: 6}
    for name, version in versions.items():
        aggregator.add(aggregator.check(parties.upload(name, terms, version, told[version])))
    too_old = msgspec.structs.replace(terms, max_staleness=3)
    with pytest.raises(ForeignRound):
        aggregator.check(parties.upload(NAMES[4], too_old, 4, b"4" * 32))
    with pytest.raises(BadSignature):
        aggregator.check(parties.upload(NAMES[4], terms, 6, told[5]))
    (request,) = aggregator.requests()
    assert [model.version for model in opened(request, messages.MaskRequest).models] == [5, 6, 7]
    assert aggregator.finish([parties.helpers[0].open(request)]).tolist() == parties.sum_of(versions)


def test_a_stranger_with_a_good_signature_is_no_client():
    parties = Parties()
    wire = opened(parties.upload(NAMES[0]), messages.Upload)
    stranger = Ed25519PrivateKey.generate()
    forged = msgspec.structs.replace(wire, client_id="eve", signature=stranger.sign(b"anything"))
    with pytest.raises(UnknownClient):
        parties.aggregator().check(msgspec.msgpack.encode(forged))
