"""A client's own rules, whatever the server says, and its text."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from loopback import NAMES, WORDS, config_of, participant, plan_of, text_trainer

from models.errors import CorpusError
from models.vocabulary import Vocabulary
from orchestrator.network import messages
from orchestrator.network.errors import (
    RunChanged,
    WireError,
)
from orchestrator.network.own_text import read_own_sentences
from orchestrator.network.server import setup_message
from orchestrator.secagg.errors import SessionReplayed
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)


def test_a_client_is_summed_once_in_a_round(keys):
    config, client = config_of(num_rounds=2), participant(keys, NAMES[0])
    assert client.answer(setup_message(config, WORDS)) is None
    assert stage_of_answer(client.answer(plan_of(config))) == (1, "train")
    with pytest.raises(SessionReplayed):
        client.answer(plan_of(config))
    assert stage_of_answer(client.answer(plan_of(config, 2))) == (2, "train")


def test_a_server_can_t_take_back_its_configuration_or_its_words(keys):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    client.answer(setup_message(config_of(), WORDS))  # the same again, as after a lost connection
    others = Vocabulary((*WORDS.words[:-2], WORDS.words[-1], WORDS.words[-2]))
    for changed in (setup_message(config_of(seed=2), WORDS), setup_message(config_of(), others)):
        with pytest.raises(RunChanged, match="^the server sent another configuration or vocabulary") as caught:
            client.answer(changed)
        assert caught.value.exit_code == 3


def test_a_step_of_another_round_than_the_plan_s_is_refused(keys):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(num_rounds=2), WORDS))
    client.answer(plan_of(config_of(num_rounds=2), 2))
    with pytest.raises(WireError, match="^round 1, advertise: the server's last plan was for round 2"):
        client.answer(encode(messages.Step(1, "advertise", memoryview(b""))))


@pytest.mark.parametrize("is_set_up", [False, True])
def test_a_step_of_round_0_comes_before_any_plan(keys, is_set_up):
    """Plans begin with round 1; a client that has had none would otherwise take the step for one of its round."""
    client = participant(keys, NAMES[0])
    if is_set_up:
        client.answer(setup_message(config_of(), WORDS))
    with pytest.raises(WireError, match="^round 0, advertise: the server has sent no plan before"):
        client.answer(encode(messages.Step(0, "advertise", memoryview(b""))))


def stage_of_answer(message):
    found = messages.decode(message, messages.TO_SERVER)
    return found.round_num, found.stage


@pytest.mark.parametrize("stage", ["advertise", "shares", "upload", "encrypt", "consistency", "unmask", "nonsense"])
def test_a_step_without_what_comes_before_it_is_refused(keys, stage):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    with pytest.raises(Exception, match="^round 1, |no such|Invitation: 0 bytes"):
        client.answer(encode(messages.Step(1, stage, memoryview(b""))))


def test_a_plan_before_the_configuration_and_one_of_another_size(keys):
    client = participant(keys, NAMES[0])
    with pytest.raises(WireError, match="no configuration before"):
        client.answer(plan_of(config_of()))
    client.answer(setup_message(config_of(), WORDS))
    with pytest.raises(WireError, match="raw must hold"):
        client.answer(encode(messages.Plan(1, 1.0, memoryview(b"1234"))))


@pytest.mark.parametrize(
    "setup",
    [
        messages.Setup(b"{", list(WORDS.words)),
        messages.Setup(b'{"seed": "x"}', list(WORDS.words)),
        messages.Setup(msgspec.json.encode(config_of()), ["no", "special", "words"]),
    ],
    ids=["no JSON", "no configuration", "no vocabulary"],
)
def test_a_setup_that_is_none(keys, setup):
    with pytest.raises(WireError, match="^the server's configuration or vocabulary"):
        participant(keys, NAMES[0]).answer(encode(setup))


def test_the_text_of_one_client(tmp_path):
    (tmp_path / "own.txt").write_text("See you. At the house!\n\nmy friend", encoding="utf-8")
    assert read_own_sentences(str(tmp_path / "own.txt"), "anyone") == ("see you", "at the house", "my friend")
    lines = [{"client_id": "ann", "text": "see you"}, {"client_id": "bob", "text": "my friend"}]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_own_sentences(str(tmp_path / "all.jsonl"), "bob") == ("my friend",)
    with pytest.raises(CorpusError, match="has no client eve"):
        read_own_sentences(str(tmp_path / "all.jsonl"), "eve")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(CorpusError, match="has no words"):
        read_own_sentences(str(tmp_path / "empty.txt"), "anyone")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CorpusError, match="not UTF-8"):
        read_own_sentences(str(tmp_path / "latin.txt"), "anyone")


@pytest.mark.parametrize("how", ["flagged", "overflows in the difference"])
def test_no_answer_tells_whether_training_diverged(keys, how):
    """A server can make weights that overflow for one word only, and would read the word in a refusal."""

    def overflowing(config, size):
        good = text_trainer(config, size)
        bad = tuple(np.full(shape, np.inf, np.float32) for shape in size.shapes)
        return lambda *args: {**good(*args), "delta": bad, "is_finite": how != "flagged"}

    answers = []
    for trainer in (text_trainer, overflowing):
        client = participant(keys, NAMES[0], load_trainer=trainer)
        client.answer(setup_message(config_of(), WORDS))
        answers.append(client.answer(plan_of(config_of())))
        vector = client._vector
    assert answers[0] == answers[1]
    assert not vector.any(), "zeros, and a weight of 0"


def test_a_client_starts_where_seal_is_not():
    """SEAL's package comes for x86-64 alone; only the encrypted sum needs it."""
    program = "import sys; sys.modules['seal'] = None; import orchestrator.network.client, orchestrator.cli.parties"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
