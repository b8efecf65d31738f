"""Changed bytes are read as they were, or refused. FEDKEYS_FUZZED sets how many of each message; 2,000 by default."""

from __future__ import annotations

import os
import random

import pytest
from split_round import AGREED, NAMES, NUM_SLOTS, REFUSALS, Parties

from orchestrator.split import messages
from orchestrator.split.client import Told
from orchestrator.split.opened import OpenedRounds
from orchestrator.wire import encode

NUM_FUZZED = int(os.environ.get("FEDKEYS_FUZZED", "2000"))
PARTIES = Parties()


def mangled(wire, count=NUM_FUZZED):
    """The bytes with some changed, cut, put in or all replaced."""
    rng = random.Random(len(wire))
    for _ in range(count):
        octets, place = bytearray(wire), rng.randrange(min(len(wire), rng.choice((8, 64, len(wire)))))
        kind = rng.randrange(5)
        if kind == 0:
            for _ in range(rng.randint(1, 8)):
                octets[rng.randrange(len(octets))] = rng.randrange(256)
        elif kind == 1:
            octets[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            octets = octets[:place] if rng.random() < 0.5 else octets[place:]
        elif kind == 3:
            octets[place:place] = rng.randbytes(rng.randint(1, 40))
        else:
            octets = bytearray(rng.randbytes(rng.randint(0, 300)))
        if bytes(octets) != wire:
            yield bytes(octets)


@pytest.mark.timeout(1200)
def test_fuzzed_terms_are_refused_by_the_client_or_by_the_aggregator():
    """Nobody signs terms: a client that takes changed ones signs what its aggregator did not say."""
    aggregator, num_taken = PARTIES.aggregator(), 0
    for wire in mangled(encode(PARTIES.terms())):
        try:
            upload = PARTIES.client(NAMES[0]).mask(wire, PARTIES.vector(NAMES[0]), Told(PARTIES.run, 7, AGREED))
        except (*REFUSALS, ValueError):  # ValueError: of another length
            continue
        num_taken += 1
        with pytest.raises(REFUSALS):
            aggregator.check(upload)
    assert num_taken > NUM_FUZZED / 1000  # a higher minimum, or other staleness


@pytest.mark.timeout(1200)
def test_fuzzed_uploads_are_refused():
    upload, aggregator = PARTIES.upload(NAMES[0]), PARTIES.aggregator()
    for wire in mangled(upload):
        with pytest.raises(REFUSALS):
            aggregator.check(wire)
    assert aggregator.check(upload).client_id == NAMES[0]


@pytest.mark.timeout(1200)
def test_fuzzed_lists_are_refused_and_leave_the_round_closed():
    request, helper = PARTIES.total(NAMES[:3]).requests()[0], PARTIES.helper(0, OpenedRounds())
    for wire in mangled(request):
        with pytest.raises(REFUSALS):
            helper.open(wire)
    assert len(helper.open(request)) > 4 * NUM_SLOTS


@pytest.mark.timeout(1200)
def test_fuzzed_answers_are_refused_or_change_the_masks_alone():
    """The words are the helper's own: nobody else can say what they must be."""
    aggregator = PARTIES.total()
    answer = PARTIES.helper(0, OpenedRounds()).open(aggregator.requests()[0])
    num_taken = 0
    for wire in mangled(answer):
        try:
            total = aggregator.finish([wire])
        except REFUSALS:
            continue
        num_taken += 1
        assert total.tolist() != PARTIES.sum_of(NAMES)
        assert wire[: -4 * NUM_SLOTS] == answer[: -4 * NUM_SLOTS]
    assert num_taken > 0
    assert messages.decode(answer, messages.MaskSum, len(answer)).helper == 0
