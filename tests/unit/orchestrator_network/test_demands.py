"""A client's own limits: a rogue server gets a refusal by name, never a traceback or endless work."""

from __future__ import annotations

import math

import msgspec
import pytest
from loopback import NAMES, WORDS, config_of, first_state, participant, plan_of, text_trainer

from models.weights import ModelSize, weights_to_bytes
from orchestrator.errors import ConfigError
from orchestrator.network import messages
from orchestrator.network.demands import Demands, training_bytes, training_minutes
from orchestrator.network.errors import DemandRefused
from orchestrator.network.server import setup_message
from orchestrator.secagg import messages as secagg_messages
from orchestrator.secagg.errors import WeakParameters
from orchestrator.secagg.graph import Policy, graph_parameters
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)


def refused(keys, message, match, **changes):
    client = participant(keys, NAMES[0], **changes)
    with pytest.raises(DemandRefused, match=match) as caught:
        client.answer(message)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "match"),
    [
        ("rounds.cohort_size", 2**31 - 1, "asks for up to 2147483647 clients in a round, this client allows 10000"),
        ("client.epochs", 2**31 - 1, "asks for up to 2147483647 epochs, this client allows 100"),
        ("client.batch_size", 2**31 - 1, "tokens in a batch"),
        ("data.max_words", 2**31 - 1, "tokens in a batch"),
        ("aggregation.clip_norm", 1e-320, "can't be trained with: clip_norm must be at least"),
        ("model.num_cells", 10**7, "weights in the model"),
        ("model.num_cells", 2**30, "weights in the model"),  # beyond what fedkeys itself trains
        ("data.tokeniser", 1, "words are those of tokeniser 1, this client reads text by 2"),
        ("aggregation.aggregator", "encrypted", "runs the sum 'encrypted', this client takes part in 'secagg' only"),
    ],
)
def test_a_run_beyond_the_client_s_limits(keys, setting, value, match):
    sections = msgspec.to_builtins(config_of())
    section, _, name = setting.partition(".")
    sections[section][name] = value
    refused(keys, encode(messages.Setup(msgspec.json.encode(sections), list(WORDS.words))), match)


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"max_sentences": 199}, "asks for up to 200 sentences to train on in a round, this client allows 199"),
        ({"max_minutes": 0.00001}, "asks for up to 1 minutes of training in a round, this client allows 1e-05"),
        ({"max_memory_mib": 0}, "asks for up to 1 MiB of memory, this client allows 0"),
    ],
)
def test_a_client_lowers_its_limits(keys, limits, match):
    """The figures are the most that the settings allow: this client's text is fifteen words."""
    refused(keys, setup_message(config_of(), WORDS), match, **limits)


def test_the_reckoned_time_and_memory():
    """60 sentences of 20 words in 3 epochs; 2 * 5 + 4 * 9 + 9 + 6 + 5 = 66 weights."""
    config = config_of(**{"client.max_sentences": 60, "client.epochs": 3, "data.max_words": 20})
    size = ModelSize(vocabulary_size=5, embedding_size=2, num_cells=3)
    assert size.num_weights == 66
    assert training_minutes(config, size) == pytest.approx(6 * 66 * (60 * 3 * 20) / 1e9 / 60)
    weights, states, logits, text = 8 * 66, 8 * 3 * 40, 3 * 40 * 5, 3 * 180 * 20
    assert training_bytes(config, size) == 4 * (weights + states + logits + text)


def test_a_model_so_large_that_a_machine_word_can_t_count_its_weights(keys):
    """6 * (2**31 - 1)**2 weights of one tensor: a product of machine words is negative, and passes each limit."""
    sections = msgspec.to_builtins(config_of())
    sections["model"].update(embedding_size=2**31 - 1, num_cells=2**31 - 1)
    message = encode(messages.Setup(msgspec.json.encode(sections), list(WORDS.words)))
    refused(keys, message, "weights in the model, this client allows")


def test_settings_that_contradict_each_other(keys):
    sections = msgspec.to_builtins(config_of())
    sections["model"]["vocabulary_size"] = sections["data"]["vocabulary_size"] + 1
    message = encode(messages.Setup(msgspec.json.encode(sections), list(WORDS.words)))
    refused(keys, message, "^the server's settings can't be trained with: ")


@pytest.mark.parametrize("cohort_size", [6, 5000])
def test_an_invitation_to_a_larger_cohort_than_the_run_s_or_the_roster(keys, cohort_size):
    """The server states the size, and from a size on it draws the graph; a million's degree takes long to compute."""
    config = config_of(**{"rounds.cohort_size": cohort_size})
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config, WORDS))
    client.answer(plan_of(config))
    invitation = secagg_messages.Invitation(bytes(32), 1, 0, 1 << 20, 602, 344, 2, 10)
    with pytest.raises(WeakParameters, match="^a cohort of 1048576, at most 6 expected"):
        client.answer(encode(messages.Step(1, "advertise", memoryview(encode(invitation)))))


@pytest.mark.parametrize(
    ("client_s", "server_s"), [(100, 0), (0, 100)], ids=["the server draws the graph", "the client wants it drawn"]
)
def test_a_server_can_t_choose_from_which_size_on_it_draws_the_graph(keys, client_s, server_s):
    """On a drawn graph a lying server could surround a client with corrupt neighbours."""
    num = 60
    config = config_of(**{"rounds.cohort_size": num})
    client = participant(keys, NAMES[0], policy=Policy(complete_up_to=client_s, dropout_share=0.05))
    client._enrolled = [bytes([index]) * 32 for index in range(num)]
    client.answer(setup_message(config, WORDS))
    client.answer(plan_of(config))
    offered = graph_parameters(num, Policy(complete_up_to=server_s, dropout_share=0.05))
    invitation = secagg_messages.Invitation(bytes(32), 1, 0, num, offered.degree, offered.threshold, 3, 10)
    with pytest.raises(WeakParameters, match="^the server offers degree"):
        client.answer(encode(messages.Step(1, "advertise", memoryview(encode(invitation)))))


@pytest.mark.parametrize("tensor", range(5))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -2e3, 3e38])
def test_weights_that_let_training_overflow(keys, bad, tensor):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    weights = tuple(tensor.copy() for tensor in first_state(config_of()).weights)
    weights[tensor].flat[0] = bad  # of the first tensor: one word's row
    with pytest.raises(DemandRefused, match="^round 1: the server sends a weight of"):
        client.answer(encode(messages.Plan(1, 1.0, memoryview(weights_to_bytes(weights)))))


@pytest.mark.parametrize("rate", [math.nan, math.inf, -1.0, 1e30])
def test_a_learning_rate_beyond_the_client_s_limits(keys, rate):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    plan = messages.Plan(1, rate, memoryview(weights_to_bytes(first_state(config_of()).weights)))
    with pytest.raises(DemandRefused, match="^round 1: the server asks for a learning rate of"):
        client.answer(encode(plan))


@pytest.mark.parametrize("round_num", [0, 3, 2**32 - 1])
def test_a_round_that_the_run_has_not(keys, round_num):
    """Rounds without end are work without end; the last number of all would lock the client out of the run."""
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(num_rounds=2), WORDS))
    with pytest.raises(DemandRefused, match=f"^the server asks for round {round_num} of a run of 2$"):
        client.answer(plan_of(config_of(), round_num))
    assert client.answer(plan_of(config_of(), 1)), "and the journal does not hold it"


def test_a_setup_that_comes_again_is_no_work(keys):
    built = []

    def trainer(config, size):
        built.append(size)
        return text_trainer(config, size)

    client = participant(keys, NAMES[0], load_trainer=trainer)
    for _ in range(3):
        client.answer(setup_message(config_of(), WORDS))
    assert len(built) == 1


def test_a_stage_of_another_protocol(keys):
    """Whoever announced secagg and asked for `encrypt` opened one client's upload."""
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    client.answer(plan_of(config_of()))
    with pytest.raises(DemandRefused, match="^round 1, encrypt: there is no such stage in the sum 'secagg'"):
        client.answer(encode(messages.Step(1, "encrypt", memoryview(b""))))


def test_a_sum_of_another_length(keys):
    client = participant(keys, NAMES[0])
    client._secagg = _Masking()
    client.answer(setup_message(config_of(), WORDS))
    client.answer(plan_of(config_of()))
    client._secagg = _Masking()
    with pytest.raises(DemandRefused, match="^round 1, upload: the server sums vectors of another length"):
        client.answer(encode(messages.Step(1, "upload", memoryview(b""))))


class _Masking:
    """Refuses a vector as secagg's client does, whose session was opened for another length."""

    def mask(self, wire, vector):
        raise ValueError(f"vector must be uint32 [{vector.size + 1}]")


def test_a_sum_that_no_client_can_take_part_in():
    with pytest.raises(ConfigError, match="^--aggregator plain: over a network the sum is"):
        Demands(Policy(), "plain")
