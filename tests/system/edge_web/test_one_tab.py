"""One tab in Chromium: what it refuses in one sentence, what it keeps then, and how it keeps the screen on."""

from __future__ import annotations

import pytest
from loopback import plan_of
from web_tabs import Phone
from web_world import DESKS, PHONES, TEXTS, config_with

from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import read_roster, write_roster
from orchestrator.network.lobby import Lobby, make_codes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


AWAKE = """
globalThis.locks = [];
navigator.wakeLock.request = async (kind) => {
  const lock = { kind, released: false, release: async () => { lock.released = true; } };
  locks.push(lock);
  return lock;
};
globalThis.look = (isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  if (isHidden) for (const lock of locks) lock.released = true;
  document.dispatchEvent(new Event("visibilitychange"));
};
"""
LOCKS = "JSON.stringify(locks.map(({ released }) => released))"


def test_the_screen_is_kept_on_again_when_the_page_is_looked_at_again_and_only_while_it_takes_part(world):
    phone = world.phones[PHONES[0]]
    if phone.is_open:
        phone.close()
    phone.open(before=AWAKE)
    with world.waiting(config_with(world.seed())):
        phone.joins()
        phone.until(f"{LOCKS} === '[false]'")
        phone.do("evaluate", "look(true)")
        phone.do("evaluate", "look(false)")
        phone.until(f"{LOCKS} === '[true,false]'")
        phone.do("evaluate", "look(false)")  # it is held already
        phone.leaves()
        phone.until(f"{LOCKS} === '[true,true]'")
        phone.do("evaluate", "look(false)")
        assert phone.do("evaluate", LOCKS) == "[true,true]"
    phone.close()


def test_a_code_that_was_used_enrols_nobody_else_and_the_right_one_does(world, tmp_path):
    make_keys(tmp_path / "keys", DESKS)
    used, free = make_codes(2)
    first, late = (Phone(world.phones[PHONES[0]]._tabs, name, world.url) for name in ("first", "late"))
    with world.door(Lobby(tmp_path / "keys", [used, free])):
        for phone in (first, late):
            phone.open()
            phone.enrols(used)
            phone.until('document.getElementById("join-outcome").textContent')
        assert first.text("join-outcome") == "This browser is enrolled as first."
        assert one_sentence(late.text("join-outcome")).startswith("The server refused: this code enrols nobody, or was")
        late.enrols(free)
        late.says("join-outcome", "This browser is enrolled as late.")
    assert read_roster(tmp_path / "keys").keys() == {*DESKS, "first", "late"}
    for phone in (first, late):
        phone.forget()


def one_sentence(said):
    assert said.index(".") == len(said) - 1, said
    return said


def refused(world, config, question=None, name=PHONES[0], **changes):
    """What the page says when a server asks a phone; its sentences and its key are there afterwards."""
    phone = world.phone(name)
    with world.waiting(config, **changes) as hub:
        phone.joins()
        if question is not None:
            (connection,) = hub.wait_for_clients(1, 1, 20)
            assert connection.ask((1, "train"), question)
        phone.until('document.getElementById("join-stop").hidden')
    assert phone.text("words-count") == "20"
    assert phone.text("join-name-shown") == name
    return one_sentence(phone.text("join-outcome"))


def test_a_round_of_another_model_is_refused_in_one_sentence(world):
    other = config_with(world.seed(), **{"client.clip_norm": 0.5})
    said = refused(world, other, plan_of(other))
    assert said == (
        "The rounds ended here: this browser refuses what the server asks: the run trains another model than the one "
        "that this page has: reload it, or ask the operator."
    )


def test_who_is_not_let_in_is_told_to_enrol(world):
    said = refused(world, config_with(world.seed()), lets_in=DESKS)
    assert said == "The rounds ended here: the server did not let this browser in: enrol with a code from the operator."


def test_a_roster_without_me_is_refused_and_the_next_one_with_me_is_taken(world):
    whole = read_roster(world.keys)
    try:
        write_roster(world.keys, {name: key for name, key in whole.items() if name != PHONES[0]})
        said = refused(world, config_with(world.seed()), lets_in=DESKS)
    finally:
        write_roster(world.keys, whole)
    assert said == f"The rounds ended here: the roster has no client {PHONES[0]}: ask the operator to enrol it."
    with world.waiting(config_with(world.seed())) as hub:
        world.phones[PHONES[0]].joins()
        assert [connection.client_id for connection in hub.wait_for_clients(1, 1, 20)] == [PHONES[0]]
        world.phones[PHONES[0]].leaves()


def test_a_phone_whose_space_is_full_says_so_and_loses_nothing(world):
    """Its browser gives it 200 kB: that is too little for the page's own files, which it then works without."""
    phone = Phone(world.phones[PHONES[0]]._tabs, "full", world.url)
    quota = {"origin": world.url, "quotaSize": 200_000}
    with world.door():
        phone.open(part="words", devtools=["Storage.overrideQuotaForOrigin", quota])
        assert phone.text("status") == "Ready"
        phone.types(TEXTS[PHONES[0]])
        much = "".join(f"{'see you ' * 250}{n}\n" for n in range(1000))
        phone.do("upload", {"selector": "#words-file", "text": much})
        assert one_sentence(phone.says("words-outcome", "The space that this browser gives to this page is full"))
        assert phone.text("words-count") == "20"
    phone.forget()


def test_a_phone_whose_data_the_person_deletes_keeps_what_comes_after(world):
    phone = Phone(world.phones[PHONES[0]]._tabs, "cleared", world.url)
    with world.door():
        phone.open(part="words")
        phone.types(TEXTS[PHONES[0]])
        phone.do("devtools", ["Storage.clearDataForOrigin", {"origin": world.url, "storageTypes": "all"}])
        phone.types(TEXTS[PHONES[1]][:3])
        phone.says("words-count", "3")
    phone.forget()


def test_a_tab_trains_though_the_server_has_gone_before_it_ever_did(world):
    """What training takes was kept when the page was first open."""
    phone = world.phone(PHONES[2])
    phone.do("evaluate", 'location.hash = "#train"')
    phone.do("evaluate", 'document.getElementById("train-ready").click()')
    phone.until('!document.getElementById("train-start").disabled')
    phone.do("tap", "#train-start")
    phone.says("train-outcome", "The training is done.")
    phone.do("evaluate", 'location.hash = "#join"')
