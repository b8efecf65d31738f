"""A client answers each round once, over restarts: what stands on its disk, and when."""

from __future__ import annotations

import json

import msgspec
import pytest
from loopback import NAMES, WORDS, config_of, participant, plan_of

from models.vocabulary import Vocabulary
from orchestrator.network import messages
from orchestrator.network.errors import KeysError, WireError
from orchestrator.network.journal import Journal
from orchestrator.network.server import setup_message
from orchestrator.run.identity import run_digest
from orchestrator.secagg.errors import SessionReplayed
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)


CONFIG = config_of(num_rounds=9)


def restarted(keys, journal, config):
    client = participant(keys, NAMES[0], journal=journal)
    client.answer(setup_message(config, WORDS))
    return client


def test_a_restarted_client_does_not_answer_a_round_again(keys, tmp_path):
    path = tmp_path / "state" / "ann.json"
    client = restarted(keys, path, CONFIG)
    client.answer(plan_of(CONFIG, 1))
    assert client.answer(plan_of(CONFIG, 3))
    client._journal.close()
    client = restarted(keys, path, CONFIG)
    for round_num in (1, 2, 3):
        with pytest.raises(SessionReplayed, match=f"^round {round_num} came before: .* up to round 3 of") as caught:
            client.answer(plan_of(CONFIG, round_num))
        assert caught.value.exit_code == 3
        assert "\n" not in str(caught.value)
    assert client.answer(plan_of(CONFIG, 4))


@pytest.mark.parametrize("changed", [{"num_rounds": 10}, {"rounds.keep_checkpoints": 7}])
def test_a_run_with_the_same_seed_asks_for_the_same_vectors_and_gets_none(keys, tmp_path, changed):
    """What a client draws follows from the seed: the sums of two such runs would differ by a client's vector."""
    path, other = tmp_path / "ann.json", config_of(**{"num_rounds": 9, **changed})
    assert run_digest(other, WORDS) != run_digest(CONFIG, WORDS)
    client = restarted(keys, path, CONFIG)
    client.answer(plan_of(CONFIG))
    client._journal.close()
    with pytest.raises(SessionReplayed, match="with this seed"):
        restarted(keys, path, other).answer(plan_of(other))


def test_a_run_with_another_seed_is_another_run(keys, tmp_path):
    path = tmp_path / "ann.json"
    client = restarted(keys, path, CONFIG)
    client.answer(plan_of(CONFIG))
    client._journal.close()
    assert restarted(keys, path, config_of(num_rounds=9, seed=2)).answer(plan_of(config_of(num_rounds=9, seed=2)))


def test_the_round_stands_on_the_disk_before_anything_leaves(keys, tmp_path):
    """Also before training, whose time a server could see."""
    path, seen = tmp_path / "ann.json", []

    def looking(config, size):
        def train(*_):
            seen.append(json.loads(path.read_text())["last_rounds"])
            raise InterruptedError

        return train

    client = participant(keys, NAMES[0], load_trainer=looking, journal=path)
    client.answer(setup_message(CONFIG, WORDS))
    with pytest.raises(InterruptedError):
        client.answer(plan_of(CONFIG, 7))
    assert seen == [{"0": 7}]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_journal_that_can_t_be_written_ends_in_no_answer(keys, tmp_path):
    client = restarted(keys, tmp_path / "state" / "ann.json", CONFIG)
    (tmp_path / "state").rename(tmp_path / "gone")
    with pytest.raises(KeysError, match=r"ann\.json: No such file or directory: .* by --state$"):
        client.answer(plan_of(CONFIG))
    (tmp_path / "file").touch()
    with pytest.raises(KeysError, match="by --state$"):
        Journal(tmp_path / "file" / "ann.json")


def test_two_processes_do_not_share_a_journal(tmp_path):
    first = Journal(tmp_path / "ann.json")
    with pytest.raises(KeysError, match="is in use: this client runs already"):
        Journal(tmp_path / "ann.json")
    first.close()
    Journal(tmp_path / "ann.json").close()


def test_a_journal_of_two_names_is_one(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "ann.json")
    first = Journal(tmp_path / "ann.json")
    first.spend(0, 1)
    with pytest.raises(KeysError, match="is in use: this client runs already"):
        Journal(tmp_path / "link.json")
    first.close()
    second = Journal(tmp_path / "link.json")
    second.spend(0, 2)
    second.close()
    assert (tmp_path / "link.json").is_symlink()
    with pytest.raises(SessionReplayed, match="up to round 2"):
        Journal(tmp_path / "ann.json").spend(0, 2)


def test_two_processes_whose_lock_was_removed_answer_a_round_once(tmp_path):
    """Or one that holds the file while an older copy takes its place."""
    path = tmp_path / "ann.json"
    one = Journal(path)
    one.spend(0, 3)
    before = path.read_bytes()
    (tmp_path / "ann.json.lock").unlink()
    other = Journal(path)
    other.spend(0, 4)
    with pytest.raises(SessionReplayed, match="up to round 4"):
        one.spend(0, 4)
    path.write_bytes(before)
    for journal in (one, other):
        with pytest.raises(SessionReplayed, match="up to round 4"):
            journal.spend(0, 4)
    path.write_bytes(b"{")
    with pytest.raises(KeysError, match="is damaged"):
        one.spend(0, 5)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_a_seed_of_any_size_comes_back_from_the_disk(tmp_path, seed):
    journal = Journal(tmp_path / "ann.json")
    journal.spend(seed, 2**32 - 1)
    journal.close()
    with pytest.raises(SessionReplayed):
        Journal(tmp_path / "ann.json").spend(seed, 2**32 - 1)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 2**100])
def test_a_seed_that_no_run_has_leaves_no_line(keys, tmp_path, seed):
    sections = msgspec.to_builtins(CONFIG)
    config = json.dumps({**sections, "seed": seed}).encode()
    client = participant(keys, NAMES[0], journal=tmp_path / "ann.json")
    with pytest.raises(WireError):
        client.answer(encode(messages.Setup(config, list(WORDS.words))))
    with pytest.raises(WireError, match="the server has sent no configuration before"):
        client.answer(plan_of(CONFIG, 1))
    assert not (tmp_path / "ann.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b'{"schema": 2, "last_rounds": {}}', b'{"schema": 1, "last_rounds": 5}',
        b'{"schema": 1, "last_rounds": {"\xff": 1}}',
    ],
)  # fmt: skip
def test_a_damaged_journal_is_not_taken_for_an_empty_one(tmp_path, content):
    (tmp_path / "ann.json").write_bytes(content)
    with pytest.raises(KeysError, match=r"ann\.json is damaged"):
        Journal(tmp_path / "ann.json")


def test_a_run_s_name_follows_what_is_trained_and_not_where_the_server_s_files_lie():
    config = CONFIG
    moved = msgspec.structs.replace(
        config,
        data=msgspec.structs.replace(config.data, source="elsewhere"),
        runtime=msgspec.structs.replace(config.runtime, workers="3"),
    )
    other_words = Vocabulary((*WORDS.words[:-2], WORDS.words[-1], WORDS.words[-2]))
    assert run_digest(moved, WORDS) == run_digest(config, WORDS)
    other_seed = config_of(num_rounds=9, seed=2)
    names = {run_digest(config, WORDS), run_digest(other_seed, WORDS), run_digest(config, other_words)}
    assert len(names) == 3
