"""The C library's journal in a file: what a killed process or damage leaves of it, and that it is Python's, too."""

from __future__ import annotations

import json
import threading
from contextlib import closing, suppress
from itertools import count

import pytest
from c_participant import PLAN, SEED, SETUP, VECTORS, participant, refuses
from c_peer import CPeer, Refused

from orchestrator.network.errors import KeysError
from orchestrator.network.journal import Journal
from orchestrator.secagg.errors import SessionReplayed

FINGERPRINT, DIGEST = "0f" * 16, bytes(range(32))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ann.json"


@pytest.fixture
def journal(peer, path):
    """Asks a question about the open journal of `path`."""
    peer.ask("journal", path, 0)
    yield lambda what, *fields: peer.ask(f"journal {what}", *fields)
    peer.ask("journal", path.with_name("another.json"), 0)  # lets go of it


def refused(ask, *fields):
    with pytest.raises(Refused) as caught:
        ask(*fields)
    return caught.value.name, str(caught.value)


def test_rounds_are_spent_once_and_in_order(journal):
    assert journal("last", 7) == [b"0"]
    journal("spend", 7, 3, 0)
    journal("spend", 2**63 - 1, 1, 0)
    assert [journal("last", seed) for seed in (7, 2**63 - 1, 8)] == [[b"3"], [b"1"], [b"0"]]
    for round_num in (3, 2):
        assert refused(journal, "spend", 7, round_num, 0)[0] == "SessionReplayed"
    journal("spend", 7, 4, 0)
    assert journal("last", 7) == [b"4"]


def test_it_is_the_file_of_python_s_client(journal, peer, path, tmp_path):
    """Byte for byte; whichever of the two takes part, no round is answered twice."""
    with closing(Journal(tmp_path / "python.json")) as python:
        python.spend(7, 3)
        python.spend(0, 1)
    journal("spend", 7, 3, 0)
    journal("spend", 0, 1, 0)
    assert path.read_bytes() == (tmp_path / "python.json").read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    journal("roster", FINGERPRINT, 5, DIGEST)
    assert json.loads(path.read_bytes())["rosters"] == {FINGERPRINT: {"number": 5, "digest": DIGEST.hex()}}
    with pytest.raises(KeysError, match="is in use: this client runs already"):
        Journal(path)
    peer.ask("journal", tmp_path / "another.json", 0)
    with closing(Journal(path)) as python:
        with pytest.raises(SessionReplayed, match="up to round 3 of a run with this seed"):
            python.spend(7, 3)
        python.spend(7, 4)
    peer.ask("journal", path, 0)
    assert journal("last", 7) == [b"4"]
    assert journal("roster", FINGERPRINT) == [b"5", DIGEST]


def test_the_newest_roster_is_kept(journal):
    assert journal("roster", FINGERPRINT) == [b"0", bytes(32)]
    journal("roster", FINGERPRINT, 5, DIGEST)
    assert refused(journal, "roster", FINGERPRINT, 4, DIGEST)[0] == "OldRoster"
    journal("roster", "ab" * 16, 1, bytes(32))
    assert journal("roster", FINGERPRINT) == [b"5", DIGEST]
    assert refused(journal, "roster", "short", 1, DIGEST)[0] == "BadArgument"


@pytest.mark.parametrize("part", [1, 2])
def test_a_round_counts_once_file_and_folder_are_on_the_disk(journal, part):
    """Two calls of fsync; if one of them fails the round must not be answered, and it is spent for good."""
    assert refused(journal, "spend", 7, 1, part)[0] == "Io"
    assert refused(journal, "spend", 7, 1, 0)[0] == "SessionReplayed"
    journal("spend", 7, 2, 3)  # there is no third one
    assert journal("last", 7) == [b"2"]


def test_a_killed_process_forgets_nothing_that_it_said(peer, path):
    """It is killed while it writes round after round: the file is whole, and has the last round that was confirmed."""
    doomed = CPeer()
    doomed.ask("journal", path, 0)

    def ask_on():
        with suppress(BrokenPipeError):  # until it is killed
            for round_num in count(1):
                doomed.send("journal spend", 7, round_num, 0)

    asking = threading.Thread(target=ask_on)
    asking.start()
    for _ in range(25):
        assert doomed.receive() == [b"ok"]
    doomed.kill()
    asking.join(40)
    doomed.close()
    peer.ask("journal", path, 0)  # the lock went with the process
    assert int(peer.ask("journal last", 7)[0]) >= 25
    peer.ask("journal", path.with_name("another.json"), 0)


def test_a_killed_participant_answers_no_round_again(path):
    def taking_part():
        process = CPeer()
        process.ask("journal", path, 0)
        return process, participant(process)

    process, client = taking_part()
    client.answer(SETUP)
    assert client.answer(PLAN).hex() == VECTORS["conversation"][1]["answer"]
    process.kill()
    process.close()
    process, client = taking_part()
    client.answer(SETUP)
    refuses(client, PLAN, "SessionReplayed", "^round 1 came before")
    assert process.ask("journal last", SEED) == [b"1"]
    assert process.close() == 0


SEEN = {"number": 5, "digest": DIGEST.hex()}
SOUND = json.dumps({"schema": 1, "last_rounds": {"7": 3}, "rosters": {FINGERPRINT: SEEN}}, separators=(",", ":"))


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "\0" * 60, SOUND[:-1], SOUND + "}", SOUND.replace('"schema":1,', ""),
        SOUND.replace('"schema":1', '"schema":2'), SOUND.replace("last_rounds", "rounds"),
        SOUND.replace('"7":3', '"7":-1'),
        SOUND.replace('"7":3', '"7":3.5'), SOUND.replace('"7":3', '"7":4294967296'), SOUND.replace('"7":3', '"7":"3"'),
        SOUND.replace('"7"', '"seven"'), SOUND.replace('{"7":3}', "3"), SOUND.replace("0001", "000G"),
        SOUND.replace('"number":5,', ""), SOUND.replace("0001", "00"), SOUND.replace('"rosters":{', '"others":{'),
    ],
)  # fmt: skip
def test_what_is_damaged_is_refused_and_stays(peer, path, content):
    path.write_text(content)
    name, text = refused(peer.ask, "journal", path, 0)
    assert (name, "is damaged: it says which rounds this client must not answer again" in text) == ("Damaged", True)
    assert path.read_text() == content
    with pytest.raises(KeysError, match="is damaged"):
        Journal(path)


def test_damage_while_it_is_open_is_refused_too(journal, path):
    journal("spend", 7, 3, 0)
    path.write_text("{")
    assert refused(journal, "spend", 7, 4, 0)[0] == "Damaged"
    assert refused(journal, "last", 7)[0] == "Damaged"
    path.write_text(SOUND.replace('"7":3', '"7":1'))  # an older one was put back: this process knows better
    assert journal("last", 7) == [b"3"]


def test_one_process_at_a_time_and_by_its_own_name(peer, path, journal):
    journal("spend", 7, 3, 0)
    with CPeer() as other:
        name, text = refused(other.ask, "journal", path, 0)
        assert (name, "is in use: this client runs already" in text) == ("Io", True)
        link = path.with_name("link.json")
        link.symlink_to(path)
        assert refused(other.ask, "journal", link, 0)[0] == "Io"  # would have a lock of its own
        assert refused(other.ask, "journal", path.parent / "nowhere" / "ann.json", 0)[0] == "Io"
        other.ask("journal", path.with_name("third.json"), 0)


def test_no_allocation_fails_silently(peer, path):
    path.write_text(SOUND)
    names, allocation = [], 0
    while not names or names[-1] == "NoMemory":
        allocation += 1
        try:
            peer.ask("journal", path, allocation)
            names.append("Ok")
        except Refused as error:
            names.append(error.name)
    assert names[-1] == "Ok"
    assert len(names) > 4
    peer.ask("journal", path.with_name("another.json"), 0)
