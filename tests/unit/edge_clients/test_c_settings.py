"""The C library takes and refuses the settings of a run as Python's client does, under sanitizers."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from c_participant import PLAN, SEED, SETUP, VECTORS, participant, refuses
from c_peer import Refused

from orchestrator.network import messages
from orchestrator.wire import encode

# A device trains with the exported model, which has no proximal term and no dropout; that a group of a run is large
# enough is checked with its invitation.
STRICTER, LAXER = {"client.proximal", "client.dropout"}, {"aggregation.groups"}


def changed_setup(section=None, **changes):
    found = messages.decode(SETUP, messages.TO_CLIENT)
    config = json.loads(found.config)
    (config[section] if section else config).update(changes)
    return encode(messages.Setup(json.dumps(config).encode(), found.words))


def rewritten(old, new):
    """The setup with a part of its JSON replaced."""
    found = messages.decode(SETUP, messages.TO_CLIENT)
    assert old in found.config
    return encode(msgspec.structs.replace(found, config=found.config.replace(old, new)))


def test_each_setting_takes_and_refuses_what_python_s_does(peer):
    count = 0
    for setting, outcomes in VECTORS["settings"].items():
        section, name = setting.split(".")
        for value, expected in zip(VECTORS["values"], outcomes):
            client, found = participant(peer), ""
            try:
                client.answer(changed_setup(section, **{name: value}))
            except Refused as error:
                found = error.name
            allowed = {expected}
            if (setting in STRICTER and expected == "") or (setting in LAXER and expected == "DemandRefused"):
                allowed = {"", "DemandRefused"}
            assert found in allowed, (setting, value, found)
            count += 1
    assert count > 600


def test_a_seed_keeps_all_its_digits(peer):
    spent = {}
    client = participant(peer, spent=spent)
    client.answer(SETUP)
    client.answer(PLAN)
    assert spent == {SEED: 1}
    assert participant(peer).answer(changed_setup(seed=2**63 - 1)) is None
    for seed in (b"-1", b"1.5", b"01", b"9223372036854775808", b'"1"', b"null", b"1e3", b"1" * 400):
        refuses(participant(peer), rewritten(b'"seed":%d' % SEED, b'"seed":' + seed), "WireError")


def test_settings_that_this_version_does_not_know_or_that_are_missing_or_twice(peer):
    for old, new in (
        (b'"max_words":20,', b""),
        (b'"max_words":20,', b'"max_words":20,"new":1,'),
        (b'"max_words":20,', b'"max_words":20,"max_words":20,'),
        (b'"max_words":20,', b'"max\\u005fwords":20,'),
        (b'"seed":', b'"seed":1,"seed":'),
        (b"}}", b'},"new":{}}'),
        (b'"max_words":20', b'"max_words":20.0'),
        (b'"max_words":20', b'"max_words":020'),
        (b'"language":"en"', b'"language":"e\xff"'),
        (b'"language":"en"', b'"language":"e\n"'),
        (b'"data":{', b'"data":[{'),
    ):
        refuses(participant(peer), rewritten(old, new), "WireError", "not one of this fedkeys$")
    for config in (b"null", b"[]", b"5", b'"text"', b"", b"{}", b"{" * 100, b'{"seed":1}'):
        refuses(participant(peer), encode(messages.Setup(config, ["<pad>"])), "WireError", "not one of this fedkeys$")
    assert participant(peer).answer(rewritten(b'"source":"chitchat"', b'"source":"a\\"\\u0041\\\\ \xc3\xa9"')) is None


def test_a_run_whose_words_a_segmenter_cuts_is_refused_by_name(peer):
    changed = changed_setup("data", segmenter="icu")
    refuses(participant(peer), changed, "DemandRefused", "segmenter 'icu' is not in this client$")


def test_a_run_of_another_network_is_refused_by_name(peer):
    changed = changed_setup("model", kind="gru")
    refuses(participant(peer), changed, "DemandRefused", "model.kind 'gru' is not in this client$")


def test_a_model_beyond_what_fedkeys_trains_is_refused_whatever_the_client_allows(peer):
    limits = dict.fromkeys(("max_weights", "max_minutes", "max_memory_mib"), float("inf"))
    client = participant(peer, limits=limits)
    refuses(
        client, changed_setup("model", num_cells=20_000_000), "DemandRefused", "can't be trained with: the model would"
    )


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ({"max_sentences": 199}, "asks for up to 200 sentences to train on in a round, this client allows 199$"),
        ({"max_minutes": 0.00001}, "asks for up to 1 minutes of training in a round, this client allows 1e-05$"),
        ({"max_memory_mib": 0}, "asks for up to 1 MiB of memory, this client allows 0$"),
        ({"max_cohort": 4}, "5 clients in a round, this client allows 4$"),
        ({"max_weights": 175}, "176 weights in the model, this client allows 175$"),
        ({"max_epochs": float("nan")}, "1 epochs, this client allows nan$"),
    ],
)
def test_a_client_lowers_its_limits(peer, limit, text):
    refuses(participant(peer, limits=limit), SETUP, "DemandRefused", text)


def test_a_client_does_as_much_as_it_allows(peer):
    limits = {"max_cohort": 5, "max_epochs": 1, "max_sentences": 200, "max_batch_tokens": 40, "max_weights": 176}
    client = participant(peer, limits={**limits, "max_minutes": 1, "max_memory_mib": 1})
    assert client.answer(SETUP) is None
    weights = np.frombuffer(bytes(messages.decode(PLAN, messages.TO_CLIENT).weights), "<f4").copy()
    weights[0] = -1000
    assert client.answer(encode(messages.Plan(3, 10.0, memoryview(weights.tobytes()), b"terms of another sum")))
