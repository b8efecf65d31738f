"""Phones enrol by code: each code once, and only for whoever holds the key."""

from __future__ import annotations

import asyncio
import json
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from web_peer import a_door, ask, enrolment

from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import read_operator, read_roster, read_signed_roster, write_roster
from orchestrator.network.errors import EnrolmentRefused, KeysError
from orchestrator.network.hub import Hub
from orchestrator.network.lobby import Lobby, codes_of_file, enrolment_bytes, make_codes
from orchestrator.network.roster import decode_roster, require_listed, require_signed
from orchestrator.network.web_rounds import DoorLimits

CODES = ["AAAA-BBBB-CCCC", "DDDD-EEEE-FFFF"]
ANN, BOB, OPERATOR = (Ed25519PrivateKey.generate() for _ in range(3))


def public(key):
    return key.public_key().public_bytes_raw()


@pytest.fixture
def folder(tmp_path):
    write_roster(tmp_path, {"desk": public(OPERATOR)})
    return tmp_path


def request(code, client_id, key, **changes):
    return json.dumps(enrolment(code, client_id, key, **changes)).encode()


def test_two_phones_enrol_and_the_roster_is_whole(folder):
    lobby = Lobby(folder, CODES)
    assert lobby.enrol(request(CODES[1], "ann", ANN)) == "ann"
    assert (lobby.enrolled, lobby.wanted, lobby.num_clients) == (1, 2, 3)
    assert set(read_roster(folder)) == {"desk"}  # all of them or none
    assert lobby.enrol(request(CODES[0], "bob", BOB)) == "bob"
    assert lobby.wait() == {"desk": public(OPERATOR), "ann": public(ANN), "bob": public(BOB)} == read_roster(folder)


def test_what_a_phone_signs_is_what_the_page_signs():
    """The bytes by hand, since the page in another language makes them, too."""
    assert enrolment_bytes("AAAA-BBBB-CCCC", "ann") == b"fedkeys web 1 enrol\x00AAAA-BBBB-CCCC\x00ann"


def test_a_code_is_used_once_and_the_same_request_may_come_again(folder):
    lobby = Lobby(folder, CODES)
    first = request(CODES[0], "ann", ANN)
    assert lobby.enrol(first) == lobby.enrol(first) == "ann"  # the answer to the first was lost
    for later in (request(CODES[0], "bob", BOB), request(CODES[0], "ann", BOB), request(CODES[0], "bob", ANN)):
        with pytest.raises(EnrolmentRefused, match="enrols nobody, or was used"):
            lobby.enrol(later)
    assert lobby.enrolled == 1


def test_a_used_code_and_one_that_never_was_get_the_same_answer(folder):
    lobby, answers = Lobby(folder, CODES), set()
    lobby.enrol(request(CODES[0], "ann", ANN))
    for code in (CODES[0], "GGGG-HHHH-JJJJ", "", "AAAA"):
        with pytest.raises(EnrolmentRefused) as refused:
            lobby.enrol(request(code, "bob", BOB))
        answers.add(str(refused.value))
    assert len(answers) == 1


def test_nor_does_a_request_with_another_mistake_tell_them_apart(folder):
    lobby = Lobby(folder, CODES)
    lobby.enrol(request(CODES[0], "ann", ANN))
    for name, changes in (
        ("bob", {"signature": "00" * 64}),
        ("../bob", {}),
        ("bob", {"public_key": public(ANN).hex()}),
    ):
        answers = set()
        for code in (CODES[0], CODES[1], "GGGG-HHHH-JJJJ"):
            with pytest.raises(EnrolmentRefused) as refused:
                lobby.enrol(request(code, name, BOB, **changes))
            answers.add(str(refused.value))
        assert len(answers) == 1, (name, changes)


def test_a_code_may_be_typed_as_people_type(folder):
    assert Lobby(folder, CODES).enrol(request("aaaa bbbb-cccc", "ann", ANN)) == "ann"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"client_id": "desk"}, "name desk is taken"),
        ({"client_id": "../etc"}, "up to 64 letters"),
        ({"key": OPERATOR}, "enrolled under another name"),
        ({"signature": "00" * 64}, "not signed with the key"),
        ({"public_key": public(BOB).hex()}, "not signed with the key"),
        ({"public_key": "00"}, "no request to enrol"),
        ({"public_key": public(ANN).hex() + "\n"}, "no request to enrol"),
        ({"signature": None}, "no request to enrol"),
    ],
)
def test_what_proves_nothing_enrols_nobody_and_uses_up_no_code(folder, changes, what):
    lobby, asked = Lobby(folder, CODES), {"client_id": "ann", "key": ANN, **changes}
    with pytest.raises(EnrolmentRefused, match=what):
        lobby.enrol(request(CODES[0], **asked))
    assert lobby.enrolled == 0
    assert lobby.enrol(request(CODES[0], "ann", ANN)) == "ann"


def test_a_signature_for_one_code_or_name_is_none_for_another(folder):
    lobby, signature = Lobby(folder, CODES), enrolment(CODES[0], "ann", ANN)["signature"]
    for code, name in ((CODES[1], "ann"), (CODES[0], "bob")):
        with pytest.raises(EnrolmentRefused, match="not signed with the key"):
            lobby.enrol(request(code, name, ANN, signature=signature))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b"[" * 4000, b'{"x":' + b"[" * 4000])
def test_what_is_no_request_is_refused_in_one_sentence(folder, body):
    with pytest.raises(EnrolmentRefused, match="no request to enrol"):
        Lobby(folder, CODES).enrol(body)


def test_codes_differ_and_can_be_read_aloud():
    codes = make_codes(200)
    assert len(set(codes)) == 200
    assert all([len(part) for part in code.split("-")] == [4, 4, 4] for code in codes)
    assert not set("01IOLU") & set("".join(codes))


def test_a_file_holds_the_codes_and_is_made_once(tmp_path):
    path = tmp_path / "codes.txt"
    codes = codes_of_file(path, 3)
    assert codes_of_file(path, 3) == codes
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for number, text in ((2, None), (2, "AAAA-BBBB-CCCC\naaaabbbbcccc\n"), (1, "short\n"), (1, "")):
        if text is not None:
            path.write_text(text)
        with pytest.raises(KeysError, match="phones need as many codes"):
            codes_of_file(path, number)


def test_a_phone_enrols_over_http_and_the_lobby_closes_behind_the_last(folder):
    lobby = Lobby(folder, CODES[:1])
    with a_door(lobby) as (door, url):
        assert json.loads(ask("GET", f"{url}/status")[2]) == {
            "phase": "lobby", "enrolled": 0, "wanted": 1, "round": None, "bundle": False, "aggregator": None
        }  # fmt: skip
        assert ask("GET", f"{url}/roster.json")[0] == 409
        status, _, body = ask("POST", f"{url}/enrol", json=enrolment("AAAA-AAAA-AAAA", "ann", ANN))
        assert (status, list(json.loads(body))) == (403, ["error"])
        status, _, body = ask("POST", f"{url}/enrol", json=enrolment(CODES[0], "ann", ANN))
        assert (status, json.loads(body)) == (200, {"client_id": "ann"})
        door.begin(Hub(lobby.wait(), b"", 1 << 16), 1 << 16, read_signed_roster(folder))
        assert ask("GET", f"{url}/roster.json")[2] == (folder / "roster.json").read_bytes()
        assert set(read_roster(folder)) == {"desk", "ann"}
        assert ask("POST", f"{url}/enrol", json=enrolment(CODES[0], "bob", BOB))[0] == 403
        assert ask("POST", f"{url}/enrol", data=b"x" * 5000)[0] == 413
    with a_door() as (_, url):  # a run that is resumed has no lobby
        status, _, body = ask("POST", f"{url}/enrol", json=enrolment(CODES[0], "ann", ANN))
        assert (status, b"nobody can enrol here now" in body) == (403, True)


def test_a_request_that_never_ends_is_given_up(folder):
    async def dribble():
        yield b"{"
        await asyncio.Event().wait()

    with a_door(Lobby(folder, CODES), limits=DoorLimits(join_s=0.2)) as (_, url):
        assert ask("POST", f"{url}/enrol", data=dribble())[0] == 408


def test_names_that_differ_in_upper_and_lower_case_only_are_not_two(folder):
    lobby = Lobby(folder, CODES)
    for name in ("Desk", "DESK"):
        with pytest.raises(EnrolmentRefused, match="differs from client desk in upper and lower case only"):
            lobby.enrol(request(CODES[0], name, ANN))
    assert lobby.enrolled == 0


def test_whom_the_operator_signs_while_the_lobby_is_open_stays_on_the_roster(folder):
    lobby = Lobby(folder, CODES)
    lobby.enrol(request(CODES[0], "ann", ANN))
    later = public(Ed25519PrivateKey.generate())
    write_roster(folder, {**read_roster(folder), "eve": later})
    with pytest.raises(EnrolmentRefused, match="the name eve is taken"):
        lobby.enrol(request(CODES[1], "eve", BOB))
    lobby.enrol(request(CODES[1], "bob", BOB))
    assert set(lobby.wait()) == set(read_roster(folder)) == {"desk", "eve", "ann", "bob"}


def test_an_enrolment_is_answered_with_the_operator_who_signs_the_roster_when_the_lobby_closes(tmp_path):
    make_keys(tmp_path, ["desk"])
    operator, before = read_operator(tmp_path), read_signed_roster(tmp_path)
    lobby = Lobby(tmp_path, CODES[:1])
    with a_door(lobby) as (door, url):
        answer = json.loads(ask("POST", f"{url}/enrol", json=enrolment(CODES[0], "ann", ANN))[2])
        assert answer == {
            "client_id": "ann", "operator": operator.key.hex(), "roster_id": operator.roster_id.hex()
        }  # fmt: skip
        door.begin(Hub(lobby.wait(), b"", 1 << 16), 1 << 16, read_signed_roster(tmp_path))
        served = decode_roster(ask("GET", f"{url}/roster.json")[2])
    require_signed(served, operator)
    require_listed(served, "ann", public(ANN))
    assert served.number == before.number + 1


def test_without_the_operator_s_key_no_lobby_opens(tmp_path):
    """Else all phones would have enrolled before it shows that nobody can sign the roster."""
    make_keys(tmp_path, ["desk"])
    (tmp_path / "operator.key").unlink()
    with pytest.raises(KeysError, match=r"operator\.key: No such file"):
        Lobby(tmp_path, CODES)
