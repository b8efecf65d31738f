"""A client's own limits: a rogue server gets a refusal by name, never a traceback or endless work."""

from __future__ import annotations

import math

import msgspec
import pytest
from loopback import NAMES, WORDS, config_of, first_state, participant, plan_of

from models.weights import weights_to_bytes
from orchestrator.errors import ConfigError
from orchestrator.network import messages
from orchestrator.network.demands import Demands
from orchestrator.network.errors import DemandRefused
from orchestrator.network.server import setup_message
from orchestrator.secagg.graph import Policy
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
        ("rounds.cohort_size", 2**31 - 1, "asks for 2147483647 clients in a round, this client allows 100000"),
        ("client.epochs", 2**31 - 1, "sentences to train on in a round"),
        ("client.batch_size", 2**31 - 1, "tokens in a batch"),
        ("data.max_words", 2**31 - 1, "tokens in a batch"),
        ("model.num_cells", 10**7, "weights in the model"),
        ("data.tokeniser", 1, "words are those of tokeniser 1, this client reads text by 2"),
        ("aggregation.aggregator", "encrypted", "runs the sum 'encrypted', this client takes part in 'secagg' only"),
    ],
)
def test_a_run_beyond_the_client_s_limits(keys, setting, value, match):
    sections = msgspec.to_builtins(config_of())
    section, _, name = setting.partition(".")
    sections[section][name] = value
    refused(keys, encode(messages.Setup(msgspec.json.encode(sections), list(WORDS.words))), match)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -2e3, 3e38])
def test_weights_that_let_training_overflow(keys, bad):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    weights = tuple(tensor.copy() for tensor in first_state(config_of()).weights)
    weights[0][7, 0] = bad  # one word's row
    with pytest.raises(DemandRefused, match="^round 1: the server sends a weight of"):
        client.answer(encode(messages.Plan(1, 1.0, memoryview(weights_to_bytes(weights)))))


@pytest.mark.parametrize("rate", [math.nan, math.inf, -1.0, 1e30])
def test_a_learning_rate_beyond_the_client_s_limits(keys, rate):
    client = participant(keys, NAMES[0])
    client.answer(setup_message(config_of(), WORDS))
    plan = messages.Plan(1, rate, memoryview(weights_to_bytes(first_state(config_of()).weights)))
    with pytest.raises(DemandRefused, match="^round 1: the server asks for a learning rate of"):
        client.answer(encode(plan))


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
