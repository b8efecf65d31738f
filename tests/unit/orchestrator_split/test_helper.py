"""A helper adds the masks of one list in each round, and refuses every other by name."""

from __future__ import annotations

import contextlib
import sqlite3

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from split_round import AGREED, NAMES, NUM_SLOTS, Parties, changed, opened, words_of

from orchestrator.errors import BelowThreshold
from orchestrator.masks import Mask, add_masks
from orchestrator.split import messages
from orchestrator.split.errors import (
    BadSignature,
    DuplicateContribution,
    ForeignHelper,
    ForeignRound,
    MalformedMessage,
    OpenedLost,
    RoundOpened,
    SeedRefused,
    UnknownClient,
)
from orchestrator.split.helper import MaskHelper
from orchestrator.split.opened import OpenedRounds


def refused(parties, wires, error, match=None, helper=0):
    """Each list is refused by name, and an honest list of the same round is opened afterwards."""
    for wire in wires:
        with pytest.raises(error, match=match) as caught:
            parties.helpers[helper].open(wire)
        assert "\n" not in str(caught.value)
    aggregator = parties.total()
    answers = [own.open(request) for own, request in zip(parties.helpers, aggregator.requests())]
    assert aggregator.finish(answers).tolist() == parties.sum_of(NAMES)


def request_of(parties, **fields):
    return changed(parties.total().requests()[0], messages.MaskRequest, **fields)


def lines_of(parties, terms=None):
    return opened(parties.total(terms=terms).requests()[0], messages.MaskRequest).contributions


def test_a_list_below_the_minimum_of_the_helper_or_of_the_terms():
    parties = Parties(min_contributions=4)
    lines = lines_of(parties)
    short = [request_of(parties, contributions=lines[:num]) for num in range(4)]
    refused(parties, short, BelowThreshold, r"^round 7: a list of \d clients, 4 needed$")
    parties = Parties()
    terms = parties.terms(min_contributions=5)
    wire = request_of(parties, terms=terms, contributions=lines_of(parties, terms)[:4])
    refused(parties, [wire], BelowThreshold, "^round 7: a list of 4 clients, 5 needed$")


def test_a_client_twice():
    parties = Parties()
    first, second = lines_of(parties)[:2]
    again = lines_of(parties)[0]  # another upload of the same client, rightly signed
    wires = [request_of(parties, contributions=lines) for lines in ([first, second, first], [first, second, again])]
    refused(parties, wires, DuplicateContribution, "^round 7: contribution of 'client-0' is its second$")


def test_an_unknown_client():
    parties = Parties()
    lines = lines_of(parties)
    invented = msgspec.structs.replace(lines[0], client_id="stranger")
    refused(parties, [request_of(parties, contributions=[invented, *lines[1:]])], UnknownClient)


def test_a_signature_of_another_client():
    parties = Parties()
    lines = lines_of(parties)
    renamed = msgspec.structs.replace(lines[0], client_id=NAMES[4])
    refused(parties, [request_of(parties, contributions=[renamed, *lines[1:3]])], BadSignature)


def test_other_words_or_seals_than_the_client_signed():
    parties = Parties()
    first, *others = lines_of(parties)
    lies = (
        {"words_sha256": bytes(32)},
        {"sealed": others[0].sealed},
        {"sealed": others[0].sealed, "seals": others[0].seals},
        {"seals": first.seals * 2},
        {"signature": bytes(64)},
    )
    wires = [request_of(parties, contributions=[msgspec.structs.replace(first, **lie), *others]) for lie in lies]
    refused(parties, wires, BadSignature)


def test_terms_that_the_clients_did_not_sign():
    """Whatever of the terms differs: another round, another run, another length, a lower minimum."""
    parties = Parties()
    signed = parties.terms(min_contributions=5)
    lines = lines_of(parties, signed)
    wires = [
        request_of(parties, terms=msgspec.structs.replace(signed, **lie), contributions=lines[:3])
        for lie in (
            {"min_contributions": 2},
            {"min_contributions": 2, "round_num": 8, "max_staleness": 1},
            {"min_contributions": 2, "run": b"s" * 32},
            {"min_contributions": 2, "group": 1},
            {"min_contributions": 2, "num_slots": NUM_SLOTS + 1},
            {"min_contributions": 2, "max_staleness": 1},
        )
    ]
    refused(parties, wires, BadSignature)
    refused(Parties(), [request_of(parties)], ForeignHelper)  # other helpers' keys


def test_one_line_of_another_round():
    parties = Parties()
    lines, (old, *_) = lines_of(parties), lines_of(parties, parties.terms(round_num=6))
    refused(parties, [request_of(parties, contributions=[old, *lines[1:]])], ForeignRound)
    parties.helpers[0] = parties.helper(0, OpenedRounds())
    relabelled = msgspec.structs.replace(old, version=7)
    refused(parties, [request_of(parties, contributions=[relabelled, *lines[1:]])], BadSignature)


def test_another_model():
    """A server that trains one client on the real weights and the others on some that yield nothing."""
    parties, void = Parties(), b"void" * 8
    lines = lines_of(parties)
    deceived = parties.aggregator(agreed={7: void})
    for name in NAMES[1:]:
        deceived.add(deceived.check(parties.upload(name, agreed=void)))
    mixed = [lines[0], *opened(deceived.requests()[0], messages.MaskRequest).contributions]
    told, other = messages.Model(7, AGREED), messages.Model(7, void)
    wires = [request_of(parties, models=[model], contributions=mixed) for model in (told, other)]
    refused(parties, wires, BadSignature)
    parties.helpers[0] = parties.helper(0, OpenedRounds())
    # None, the wrong one, two for one round, one that these terms don't allow.
    models = ([], [messages.Model(6, AGREED)], [told, other], [told, messages.Model(6, void)])
    refused(parties, [request_of(parties, models=own) for own in models], ForeignRound)


def test_a_sealed_seed_of_another_client():
    """An aggregator with a client of its own can't have the helper open another's seed under that client's name."""
    parties = Parties()
    lines = lines_of(parties)
    stolen = parties.forged_line(NAMES[4], lines[0])
    wires = [request_of(parties, contributions=[*lines[1:4], stolen])]
    refused(parties, wires, SeedRefused, "^sealed seeds do not open: those of client-4$")


def test_a_sealed_seed_for_other_words_or_of_another_round():
    parties = Parties()
    first, *others = lines_of(parties)
    wires = []
    for terms in (parties.terms(), parties.terms(round_num=6)):
        old = lines_of(parties, terms)[0]
        line = msgspec.structs.replace(first, seals=old.seals, sealed=old.sealed)
        wires.append(request_of(parties, contributions=[parties.forged_line(NAMES[0], line), *others]))
    refused(parties, wires, SeedRefused, "those of client-0$")


def test_a_sealed_seed_moved_to_another_helper():
    parties = Parties(2)
    for_first, for_second = parties.total().requests()
    lines = opened(for_second, messages.MaskRequest).contributions
    moved = [
        parties.forged_line(name, msgspec.structs.replace(line, seals=line.seals[::-1]))
        for name, line in zip(NAMES, lines)
    ]
    with pytest.raises(ForeignHelper):
        parties.helpers[0].open(for_second)
    with pytest.raises(BadSignature):
        parties.helpers[0].open(changed(for_second, messages.MaskRequest, helper=0))
    wire = changed(for_first, messages.MaskRequest, contributions=moved)
    refused(parties, [wire], SeedRefused, f"those of {', '.join(NAMES)}$")


def test_bytes_that_are_no_seed_for_this_helper():
    parties = Parties()
    good = lines_of(parties)[1:]
    wires = [
        request_of(parties, contributions=[parties.sealed_line(NAMES[0], sealed), *good])
        for sealed in (bytes(messages.SEALED_BYTES), parties.seal_for(NAMES[0], bytes(32), info_of=1))
    ]
    refused(parties, wires, SeedRefused, "those of client-0$")
    parties.helpers[0] = parties.helper(0, OpenedRounds())
    longer = parties.sealed_line(NAMES[0], parties.seal_for(NAMES[0], bytes(33)))
    refused(parties, [request_of(parties, contributions=[longer, *good]), b"", b"no list"], MalformedMessage)


def test_the_answer_is_the_sum_of_the_masks_and_of_nothing_else():
    parties = Parties()
    seeds = [bytes([i]) * 32 for i in range(5)]
    lines = [parties.sealed_line(name, parties.seal_for(name, seed)) for name, seed in zip(NAMES, seeds)]
    answer = parties.helpers[0].open(request_of(parties, contributions=lines))
    expected = np.zeros(NUM_SLOTS, np.uint32)
    add_masks(expected, [Mask(seed, 1) for seed in seeds])
    assert words_of(answer).tolist() == expected.tolist()


def test_a_round_is_opened_once_also_after_a_restart_and_with_one_client_swapped(tmp_path):
    """Two lists of one round that differ by one client would give that client away."""
    parties = Parties()
    path = tmp_path / "opened.sqlite"
    first = parties.helper(0, OpenedRounds(path))
    request = parties.total(NAMES[:4]).requests()[0]
    first.open(request)
    others = [
        request,  # the very same
        parties.total(NAMES[:4]).requests()[0],  # the same clients
        parties.total(NAMES[:3]).requests()[0],  # one fewer
        parties.total(NAMES).requests()[0],  # one more
        parties.total((*NAMES[:3], NAMES[4])).requests()[0],  # one swapped
        parties.total(NAMES, parties.terms(min_contributions=3)).requests()[0],  # other terms
        parties.total(NAMES, parties.terms(max_staleness=1)).requests()[0],
    ]
    restarted = parties.helper(0, OpenedRounds(path))
    for helper in (first, restarted, parties.helper(0, OpenedRounds(path))):
        for wire in others:
            with pytest.raises(RoundOpened, match="^round 7 was opened before: a round or group has one list, "):
                helper.open(wire)
    later = parties.total(NAMES, parties.terms(round_num=8))
    answer = restarted.open(later.requests()[0])
    assert later.finish([answer]).tolist() == parties.sum_of(NAMES)
    other_run = parties.total(NAMES, parties.terms(run=b"s" * 32))
    assert other_run.finish([first.open(other_run.requests()[0])]).tolist() == parties.sum_of(NAMES)


def test_a_client_is_in_one_list_of_a_round_whatever_its_group(tmp_path):
    """Two groups' lists that share all but one client would give that one away; a refused list leaves no trace."""
    parties, path = Parties(), tmp_path / "opened.sqlite"
    first = parties.total(NAMES[:2])
    parties.helper(0, OpenedRounds(path)).open(first.requests()[0])
    helper = parties.helper(0, OpenedRounds(path))
    for names in (NAMES[:2], NAMES[1:], NAMES):
        with pytest.raises(RoundOpened, match="and a client is in one of them$"):
            helper.open(parties.total(names, parties.terms(group=1)).requests()[0])
    group = parties.total(NAMES[2:], parties.terms(group=1))
    assert group.finish([helper.open(group.requests()[0])]).tolist() == parties.sum_of(NAMES[2:])
    assert OpenedRounds(path).count() == 2


def test_the_file_is_its_owner_s_and_no_other_file_or_emptied_one_is_taken_for_it(tmp_path):
    path = tmp_path / "opened.sqlite"
    OpenedRounds(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    for content in (b"", b"not a database" * 100):
        path.write_bytes(content)
        with pytest.raises(OpenedLost, match="make new keys$"):
            OpenedRounds(path)
    with contextlib.closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
        other.execute("CREATE TABLE opened (run, round_num, group_num, request_sha256)")
    with pytest.raises(OpenedLost, match="it keeps no opened rounds"):
        OpenedRounds(tmp_path / "other.sqlite")


def test_a_file_that_can_t_be_written_opens_nothing(tmp_path):
    with pytest.raises(OpenedLost):
        OpenedRounds(tmp_path / "missing" / "opened.sqlite")
    parties, opened_rounds = Parties(), OpenedRounds(tmp_path / "good.sqlite")
    helper = parties.helper(0, opened_rounds)
    opened_rounds.close()
    with pytest.raises(OpenedLost):
        helper.open(parties.total().requests()[0])


def test_a_helper_needs_a_place_among_the_helpers():
    parties = Parties(2)
    with pytest.raises(ForeignHelper, match="none of the 2 that clients seal for"):
        MaskHelper(X25519PrivateKey.generate(), parties.public, parties.roster, 2, OpenedRounds())


def test_two_lists_for_two_helpers_give_no_sum_at_all():
    """The mask of the one who is in only one of the lists stays on."""
    parties = Parties(2)
    five, four = parties.total(), parties.total(NAMES[:4])
    first, second = parties.helpers[0].open(five.requests()[0]), parties.helpers[1].open(four.requests()[1])
    honest = parties.helper(1, OpenedRounds()).open(five.requests()[1])
    claimed = opened(honest, messages.MaskSum).request_sha256
    total = five.finish([first, changed(second, messages.MaskSum, request_sha256=claimed)])
    assert total.tolist() not in (parties.sum_of(NAMES), parties.sum_of(NAMES[:4]))
    mask = words_of(honest) - words_of(second)
    assert (total - mask).tolist() == parties.sum_of(NAMES)
