"""A ledger that is opened again, as a resume does: not a charge is lost, not one is made up."""

from __future__ import annotations

import pytest

from models.corpus import ClientId
from orchestrator.privacy.ledger import LEDGER_FILE, Ledger, LedgerHead, epsilon_spent, read_ledger

HEAD = LedgerHead("central", 2.0, 1.0, 4, 1e-3, 0.0, 1, 1, "-")
PEOPLE = tuple(map(ClientId, ("ann", "bob", "eve", "joe")))


@pytest.mark.parametrize("cut", [b"", b"{", b'{"round_num":4,"partic', b'{"round_num":4}'])
def test_opening_again_keeps_each_line_and_drops_only_one_that_a_kill_cut_off(tmp_path, cut):
    ledger = Ledger(tmp_path, HEAD)
    for round_num in (1, 2, 3):
        ledger.charge(round_num, PEOPLE[:round_num], f"sum of {round_num}")
    path = tmp_path / LEDGER_FILE
    whole = path.read_bytes()
    assert whole.count(b"\n") == 4  # the head and three charges
    path.write_bytes(whole + cut)
    again = Ledger(tmp_path, HEAD)
    assert path.read_bytes() == whole
    assert again.epsilon() == ledger.epsilon()
    assert [again.is_charged(n, f"sum of {n}") for n in (1, 2, 3, 4)] == [True, True, True, False]
    again.charge(4, PEOPLE, "sum of 4")
    assert path.read_bytes().startswith(whole)
    _, charges = read_ledger(tmp_path)
    assert [(charge.round_num, len(charge.participants)) for charge in charges] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_resumed_round_says_what_it_said_before_whatever_was_charged_since(tmp_path):
    ledger, told = Ledger(tmp_path, HEAD), {}
    for round_num in (1, 2, 3):  # ann takes part in each
        ledger.charge(round_num, PEOPLE[:round_num])
        told[round_num] = ledger.epsilon(round_num)
    ledger.bind(1, "sum of 1")  # charges nothing
    assert told[1] < told[2] < told[3] == ledger.epsilon()
    again = Ledger(tmp_path, HEAD)
    assert {round_num: again.epsilon(round_num) for round_num in told} == told
    again.charge(2, PEOPLE[:1], "another sum of 2")
    assert again.epsilon(2) == again.epsilon() > told[3]  # another release, on top of all
    assert again.epsilon(9) == again.epsilon()  # never charged: all there is


def test_what_was_spent_is_read_from_the_ledger_alone(tmp_path):
    assert epsilon_spent(tmp_path) is None
    ledger = Ledger(tmp_path, HEAD)
    assert epsilon_spent(tmp_path) == 0.0
    ledger.charge(1, PEOPLE)
    assert epsilon_spent(tmp_path) == ledger.epsilon() > 0
