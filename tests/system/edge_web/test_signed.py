"""Tabs in Chromium take part with the people, and the helpers, that the operator of their enrolment signed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from loopback import WORDS, helping
from web_tabs import Phone
from web_world import ALL, DESKS, PHONES, SECRET, TEXTS, assert_plain, config_with

from orchestrator.network import messages
from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import read_helpers, read_operator, read_signed_roster
from orchestrator.network.errors import WireError
from orchestrator.network.lobby import Lobby, make_codes
from orchestrator.network.roster import Roster
from orchestrator.run.identity import run_digest
from orchestrator.split import messages as split

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
STRANGER = b"\x77" * 32
LIES = {
    "the roster is not signed": lambda whole: Roster(whole.clients),
    "the roster was changed": lambda whole: replace(whole, clients={**whole.clients, "mallory": STRANGER}),
    "the roster was changed, ": lambda whole: replace(whole, helpers=(STRANGER,)),
    "the roster is of another run": lambda whole: replace(whole, roster_id=bytes(16)),
    "the roster is damaged": lambda whole: replace(whole, signature=b""),
}


def choose(phone, kind):
    """The person chooses a kind of sum."""
    place = 'document.getElementById("join-sum")'
    phone.do("evaluate", f"{place}.value = {kind!r}; {place}.dispatchEvent(new Event('change'))")


@pytest.mark.parametrize("said", LIES)
def test_a_server_that_is_not_the_operator_names_nobody(world, monkeypatch, said):
    lie, phone = LIES[said](read_signed_roster(world.keys)).to_json(), world.phone(PHONES[0])
    monkeypatch.setattr(Roster, "to_json", lambda _: lie)
    with world.waiting(config_with(world.seed())):
        phone.joins()
        phone.says("join-outcome", said.strip(", "))
    monkeypatch.undo()
    with world.waiting(config_with(world.seed())) as hub:  # nothing of the lie is kept
        phone.joins()
        assert len(hub.wait_for_clients(1, 1, 20.0)) == 1
        phone.leaves()


def test_an_enrolment_is_answered_by_the_operator_of_the_code_s_address(world, tmp_path):
    make_keys(tmp_path / "keys", DESKS)
    (code,), operator = make_codes(1), read_operator(tmp_path / "keys")
    phone = Phone(world.phones[PHONES[0]]._tabs, "addressed", world.url)
    with world.door(Lobby(tmp_path / "keys", [code])):
        phone.open()
        phone.enrols(f"{code}&operator={read_operator(world.keys).fingerprint}")
        phone.says("join-outcome", "The server names another operator than the address with the code")
        assert phone.do("evaluate", 'document.getElementById("join-ready").hidden')
        phone.do("evaluate", f"location.href = '/?again#code={code}&operator={operator.fingerprint}'")
        phone.until(f'document.getElementById("join-code").value === {json.dumps(code)}')
        phone.until(f'document.getElementById("join-name").value === {json.dumps(phone.name)}')  # as it asked before
        phone.do("tap", "#join-enrol")
        phone.says("join-outcome", "This browser is enrolled as addressed.")
        assert phone.text("join-operator").replace(" ", "") == operator.fingerprint
    phone.forget()


def test_tabs_in_a_split_sum_send_one_answer_and_the_sum_is_plain_s(world, tmp_path):
    config = config_with(world.seed(), **{"aggregation.aggregator": "split"})
    with (
        helping(world.keys, tmp_path, run_digest(config, WORDS), min_contributions=3) as (helpers, _),
        world.rounds(tmp_path, config, helpers=helpers, aggregator="split") as served,
    ):
        first, *others = map(world.phone, PHONES)
        choose(first, "secagg")
        first.do("evaluate", 'window.dispatchEvent(new Event("hashchange"))')
        first.says("join-why", "The rounds are summed by split sum: choose that kind of sum, or stay out.")
        for phone in (first, *others):
            choose(phone, "split")
            phone.joins()
    (report,) = served.rounds
    assert list(report.survivors) == list(ALL), report.reason
    assert_plain(config, served.rounds)
    for name, phone in world.phones.items():
        phone.says("join-outcome", "goodbye: all done")
        assert phone.text("join-helpers") == read_helpers(world.keys)[0].hex()
        sent = phone.traffic()[0]
        assert not [word for word in {SECRET, *"\n".join(TEXTS[name]).split()} for frame in sent
                    if word.encode() in frame and len(word) > 3]  # fmt: skip
        upload = next(filter(None, map(upload_of, reversed(sent))))
        numbers = [int.from_bytes(upload.words[at : at + 4], "little") for at in range(0, 24, 4)]
        assert phone.text("join-numbers").startswith(", ".join(map(str, numbers)))
        assert upload.client_id == name
        choose(phone, "secagg")


def upload_of(frame):
    """The upload of the split sum in what left a tab; None if there is none."""
    try:
        answer = messages.decode(frame, messages.TO_SERVER)
    except WireError:
        return None
    is_upload = isinstance(answer, messages.Answer) and len(answer.body) > 0 and answer.stage == "train"
    return split.decode(bytes(answer.body), split.Upload, 1 << 20) if is_upload else None
