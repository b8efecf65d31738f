"""What `fedkeys serve` begins, goes on with and refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import threading

import portpicker
import pytest
from loopback import (
    DEADLINES,
    NAMES,
    WORDS,
    Peer,
    Served,
    config_of,
    first_state,
    in_one_process,
    plain_step,
    serving,
    wait_until,
)
from web_peer import WebPeer, a_door, ask, enrolment

from models.corpus import Corpus
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.network.certificates import read_identity, read_roster, write_roster
from orchestrator.network.lobby import Lobby
from orchestrator.network.serve import hidden_in_a_crowd, serve
from orchestrator.network.server import void_unfinished
from orchestrator.rounds.build import (
    model_size,
)
from orchestrator.rounds.round import weights_digest
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity

pytestmark = pytest.mark.timeout(60)


def begun(path, config, state=None):
    """The folder of a run that begins at a state; its lock goes with it."""
    folder, num_weights = RunFolder(path), model_size(config.model, WORDS.size).num_weights
    folder.create(config, WORDS, build_identity(config, Corpus("texts", {}, "1" * 64), WORDS, num_weights))
    folder.save_checkpoint(state or first_state(config), keep=2)
    return folder


class Lives:
    """The processes of a run's server, one after the other, each with restarted clients that keep their journals."""

    def __init__(self, keys, path, config):
        self._keys, self.run, self._config = keys, path / "run", config
        self._address = f"localhost:{portpicker.pick_unused_port()}"
        self._journals = {name: path / f"{name}.json" for name in NAMES}
        begun(self.run, config)

    def next(self, names=NAMES, step=plain_step, lies=None, ends_at=lambda note: False):
        """One life, until its rounds are done, the step raises, or a note at which a signal ends it.

        Returns its notes, and its clients by name.
        """

        def note(line):
            notes.append(line)
            if ends_at(line):
                raise KeyboardInterrupt

        def run():
            folder = RunFolder(self.run)
            with contextlib.suppress(KeyboardInterrupt):
                serve(folder, self._config, self._keys, self._address, DEADLINES, note, None, lambda *_: (None, step))

        notes = []
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        wait_until(lambda: any("listening" in line for line in notes))
        served, lies = Served(RunFolder(self.run), self._address), lies or {}
        peers = {name: Peer(self._keys, served, name, lies.get(name), journal=self._journals[name]) for name in names}
        assert [peer.join().error for peer in peers.values()] == [None] * len(names)
        thread.join(20)
        assert not thread.is_alive()
        return notes, peers


def test_a_run_goes_on_where_it_stood_and_only_as_it_was_begun(keys, tmp_path):
    config = config_of(num_rounds=2)
    folder = begun(tmp_path / "run", config, dataclasses.replace(first_state(config), round_num=1))
    address = f"localhost:{portpicker.pick_unused_port()}"
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match="was begun with another config"):
        serve(folder, config_of(num_rounds=3), keys, address, DEADLINES, print)
    folder = RunFolder(tmp_path / "run")

    def run():
        done.append(serve(folder, config, keys, address, DEADLINES, notes.append, None, lambda *_: (None, plain_step)))

    done, notes = [], []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: notes)
    peers = [Peer(keys, Served(folder, address), name) for name in NAMES]
    assert [peer.join().goodbye for peer in peers] == ["all 2 rounds are done"] * len(NAMES)
    thread.join(20)
    assert done[0].round_num == 2
    assert [report.round_num for report in folder.rounds()] == [2]
    assert notes[0] == f"listening on {address} for 6 enrolled clients; loading TensorFlow"
    with pytest.raises(RunFolderError, match="in use by another process"):
        serve(RunFolder(tmp_path / "run"), config, keys, address, DEADLINES, print)


def test_no_client_answers_a_round_twice_though_the_server_dies_after_its_sum(keys, tmp_path):
    """The difference of two sums of one round is a client's vector, and what a client draws repeats."""
    lives = Lives(keys, tmp_path, config_of(num_rounds=4, **{"rounds.checkpoint_every": 50}))

    def power_cut(optimizer_state, weights, mean_delta, learning_rate):
        if len(RunFolder(lives.run).rounds()) == 1:
            raise KeyboardInterrupt  # in round 2: its sum is known, and nothing of it is on the disk
        return plain_step(optimizer_state, weights, mean_delta, learning_rate)

    def uploads(names, step):
        return {name: peer.rounds_of("upload") for name, peer in lives.next(names, step)[1].items()}

    before = uploads(NAMES, power_cut)
    after = uploads(NAMES[1:], plain_step)  # one client fewer, whose vector the difference would be
    assert before == dict.fromkeys(NAMES, [1, 2])
    assert after == dict.fromkeys(NAMES[1:], [3, 4])
    rounds = RunFolder(lives.run).rounds()
    assert [(line.round_num, line.outcome) for line in rounds] == [
        (1, "completed"), (2, "abandoned"), (3, "completed"), (4, "completed")
    ]  # fmt: skip
    assert rounds[1].reason == "round 2: the server stopped before it had kept the round: its updates are void"
    assert rounds[1].weights_sha256 == rounds[0].weights_sha256


def test_a_restart_washes_nobody_who_spoiled_sums(keys, tmp_path):
    """The first life ends while one of six is searched for, the second once it is struck off."""
    lives, liar = Lives(keys, tmp_path, config_of(num_rounds=8, **{"client.weighting": "equal"})), NAMES[4]

    def notes(ends_at):
        return lives.next(lies={liar: {"upload": "random words"}}, ends_at=ends_at)[0]

    assert not any("struck" in line for line in notes(lambda line: line.startswith("round 1 of 8 abandoned")))
    (struck,) = [line for line in notes(lambda line: "struck off" in line) if "struck off" in line]
    assert struck.endswith(f": {liar} spoils every sum that it is in: struck off from here on")
    num_lost = RunFolder(lives.run).last_begun()
    assert f"{lives.run / 'suspects.json'} has struck off {liar}" in notes(lambda line: False)
    rounds = RunFolder(lives.run).rounds()[num_lost:]
    assert [(line.outcome, list(line.survivors)) for line in rounds] == [
        ("completed", [name for name in NAMES if name != liar])
    ] * (8 - num_lost)


@pytest.mark.parametrize("noted", ["3", "9" * 20, "-5", "1\n2", ""])
def test_a_note_of_a_round_that_the_run_has_not_is_damage(tmp_path, noted):
    """It would be a line for each round up to that one, and none of the run's own."""
    config = config_of(num_rounds=2)
    folder = begun(tmp_path / "run", config)
    (folder.path / "begun.txt").write_text(noted)
    with pytest.raises(RunFolderError, match=r"begun\.txt .* write into it the last round that was begun$"):
        void_unfinished(folder, config, first_state(config), print)
    assert folder.rounds() == ()


@pytest.mark.parametrize(
    ("num_enrolled", "overrides", "least"),
    [(6, {}, 3), (60, {}, 5), (6, {"aggregation.corrupt_share": 0.3}, 4), (60, {"aggregation.min_survivors": 3}, 3)],
)
def test_a_server_sums_no_fewer_than_its_clients_insist_on(num_enrolled, overrides, least):
    """A twentieth of 60 enrolled are three: with two of three survivors corrupt, the third would be known."""
    assert hidden_in_a_crowd(config_of(**overrides), num_enrolled).aggregation.min_survivors == least


def test_a_cohort_too_small_to_hide_in_is_refused_at_the_start():
    with pytest.raises(ConfigError, match="^rounds.cohort_size = 6: of 1000 enrolled .* sums of 52 and more"):
        hidden_in_a_crowd(config_of(), 1000)
    three_sums = config_of(**{"rounds.cohort_size": 9, "aggregation.groups": 3})
    assert hidden_in_a_crowd(three_sums, 20).aggregation.min_survivors == 3
    with pytest.raises(ConfigError, match="sums of 4 and more"):
        hidden_in_a_crowd(three_sums, 21)


def test_a_network_run_can_be_resumed_after_each_round(keys, tmp_path):
    with serving(keys, tmp_path, config_of(num_rounds=3, **{"rounds.checkpoint_every": 50})) as served:
        peers = [Peer(keys, served, name) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)
    assert served.folder.checkpoints() == [1, 2, 3]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"aggregation.aggregator": "plain"}, "^aggregation.aggregator = 'plain': over a network"),
        ({"aggregation.aggregator": "encrypted"}, "start `fedkeys decryptor`"),
        ({"rounds.cohort_size": 20}, "has 6 clients enrolled"),
    ],
)
def test_configurations_that_can_t_be_served(keys, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        serve(RunFolder(tmp_path / "run"), config_of(**overrides), keys, "localhost:0", DEADLINES, print)
    assert not (tmp_path / "run").exists()


def test_a_phone_that_enrols_in_the_lobby_is_in_the_first_round(keys, tmp_path):
    """The page is a Python client here: it enrols by code over HTTP, and comes over WebSocket."""
    team, phone = tmp_path / "team", NAMES[0]
    shutil.copytree(keys, team)
    whole = read_roster(team)
    write_roster(team, {name: key for name, key in whole.items() if name != phone})
    config = config_of()
    folder = begun(tmp_path / "run", config)
    address, notes = f"localhost:{portpicker.pick_unused_port()}", []
    with a_door(Lobby(team, ["AAAA-BBBB-CCCC"])) as (door, url):

        def run():
            optimizer = (None, plain_step)
            serve(folder, config, team, address, DEADLINES, notes.append, None, lambda *_: optimizer, web=door)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        wait_until(lambda: notes == ["the lobby is open: 1 phone can enrol"])
        request = enrolment("AAAA-BBBB-CCCC", phone, read_identity(keys, phone))
        assert ask("POST", f"{url}/enrol", json=request)[0] == 200
        assert read_roster(team) == whole
        wait_until(lambda: json.loads(ask("GET", f"{url}/status")[2])["phase"] == "rounds")
        peers = [WebPeer(team, url, phone), *(Peer(team, Served(folder, address), name) for name in NAMES[1:])]
        assert [peer.join().goodbye for peer in peers] == ["all 1 rounds are done"] * len(NAMES)
        thread.join(20)
        assert json.loads(ask("GET", f"{url}/status")[2])["phase"] == "done"
    (report,) = folder.rounds()
    assert list(report.survivors) == list(NAMES)
    assert report.weights_sha256 == weights_digest(in_one_process(config, first_state(config), report, {}).weights)


def test_a_server_for_browsers_alone_listens_for_nobody_else(keys, tmp_path):
    config = config_of()
    folder = begun(tmp_path / "run", config)
    notes = []
    with a_door() as (door, url):

        def run():
            serve(folder, config, keys, None, DEADLINES, notes.append, None, lambda *_: (None, plain_step), web=door)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        wait_until(lambda: json.loads(ask("GET", f"{url}/status")[2])["phase"] == "rounds")
        peers = [WebPeer(keys, url, name) for name in NAMES]
        assert [peer.join().goodbye for peer in peers] == ["all 1 rounds are done"] * len(NAMES)
        thread.join(20)
    assert notes[0] == "listening on the web door for 6 enrolled clients; loading TensorFlow"
    assert [report.outcome for report in folder.rounds()] == ["completed"]
