"""Canary clients in rounds: what a round does with them, and what they can't go with."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from models.batches import build_batches
from models.client_data import ClientData
from models.corpus import ClientId, PeopleSplit
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from models.weights import ModelSize
from orchestrator.aggregator import Cohort, DropStage, PlainSum
from orchestrator.encoding import Encoder
from orchestrator.errors import ConfigError
from orchestrator.rounds.round import run_round
from orchestrator.rounds.types import Release, RoundFunctions, ServerState
from orchestrator.run.canary_clients import build_canaries, canary_names, participants
from orchestrator.settings.files import read_config

SIZE = ModelSize(60, 8, 12)


def audit_config(**overrides):
    settings = {"client.weighting": "equal", "model.start_from_word_counts": False, "audit.canaries": 40}
    return read_config(overrides={**settings, **overrides})


class NoClock:
    def stage(self, name):
        return contextlib.nullcontext()


def train_clients(weights, learning_rate, seed, all_batches):
    for batches in all_batches:
        delta = tuple(np.full(shape, 1e-4, np.float32) for shape in SIZE.shapes)
        yield {"delta": delta, "num_examples": 1, "num_tokens": batches.num_tokens, "loss_sum": 1.0, "is_finite": True}


def one_round(canaries, members, clip_norm=0.5, drops=None, privacy=None, count_under_clip=False):
    functions = RoundFunctions(
        batches_of=lambda person, rng: build_batches([np.array([4, 5])], batch_size=2, time=3, rng=rng),
        train_clients=train_clients,
        weight_of=lambda update: 1.0,
        encoder=Encoder(clip_norm, 64, 1.0, SIZE.shapes, count_under_clip=count_under_clip),
        aggregator=PlainSum(),
        update_server=lambda state, weights, mean, rate: (state, tuple(w - m for w, m in zip(weights, mean))),
        canaries=canaries,
        privacy=privacy,
    )
    weights = tuple(np.zeros(shape, np.float32) for shape in SIZE.shapes)
    return run_round(
        ServerState(0, weights, 0),
        Cohort(1, tuple(map(ClientId, members)), 1),
        functions,
        seed=1,
        client_learning_rate=1.0,
        server_learning_rate=1.0,
        stopwatch=NoClock(),
        drops=drops or {},
    )


def test_who_is_in_is_in_the_sum_with_the_clip_norm_and_who_is_out_is_not():
    """Another direction's product is normal with a spread of 1/sqrt(1832) clip norms for each canary that is in."""
    canaries = build_canaries(audit_config(), SIZE)
    members = ["p0", *canaries.members, "p1"]
    after, report = one_round(canaries, members)
    products = np.array(report.canary_products)
    spread = np.sqrt(canaries.included.sum() / SIZE.num_weights)
    assert 5 < canaries.included.sum() < 35
    assert products[canaries.included].mean() == pytest.approx(1.0, abs=6 * spread / np.sqrt(5))
    assert abs(products[~canaries.included].mean()) < 6 * spread / np.sqrt(5)
    assert report.survivors == tuple(members)
    # The model moved by the mean of all: the audit of the model alone sees the same products.
    moved = np.array(canaries.inner_products(tuple(-w for w in after.weights)))
    np.testing.assert_allclose(moved * len(members) / 0.5, products, atol=1e-5)


def test_canaries_leave_no_trace_in_what_is_reported_of_people():
    canaries = build_canaries(audit_config(), SIZE)
    _, with_them = one_round(canaries, ["p0", *canaries.members, "p1"])
    _, without = one_round(None, ["p0", "p1"])
    changed = {name for name, value in without.metrics.items() if with_them.metrics[name] != value}
    assert changed == {"update_norm"}
    assert without.canary_products is None


def test_a_canary_that_drops_out_sends_nothing_and_nobody_gets_its_place():
    canaries = build_canaries(audit_config(), SIZE)
    name = canaries.members[int(np.flatnonzero(canaries.included)[0])]
    for stage, sent in ((DropStage.BEFORE_SHARES, False), (DropStage.BEFORE_UPLOAD, False), (DropStage.NONE, True)):
        _, report = one_round(canaries, ["p0", name, "p1"], drops={name: stage})
        assert report.survivors == (("p0", name, "p1") if sent else ("p0", "p1"))
        product = report.canary_products[canaries.members.index(name)]
        assert product == pytest.approx(float(sent), abs=0.02)  # two people of 1e-4 in 1832 coordinates: 0.004 a sigma


def test_a_canary_that_is_in_counts_as_clipped_and_one_that_is_out_does_not():
    """Under an adaptive clip a canary moves the count as far as a person can."""
    seen = []

    class Kept:
        def before_round(self, cohort):
            pass

        def client_noise(self, vector, encoder, round_num, client_id):
            seen.append(int(vector[encoder.dim]))
            return vector

        def release(self, total, encoder, cohort):
            return Release(encoder.mean(total[: encoder.dim].view(np.int32), len(cohort.members)), None, 1.0)

    canaries = build_canaries(audit_config(), SIZE)
    one_round(canaries, canaries.members, privacy=Kept(), count_under_clip=True)
    assert seen == [int(not included) for included in canaries.included]


def test_under_privacy_the_products_are_those_of_the_sum_over_the_whole_cohort():
    """What the mean divides by is the cohort, whoever survived; a product is in clip norms of the sum."""

    class Passing:
        def before_round(self, cohort):
            pass

        def client_noise(self, vector, encoder, round_num, client_id):
            return vector

        def release(self, total, encoder, cohort):
            return Release(encoder.mean(total[: encoder.dim].view(np.int32), len(cohort.members)), None, 1.0)

    canaries = build_canaries(audit_config(), SIZE)
    name = canaries.members[int(np.flatnonzero(canaries.included)[0])]
    drops = {"p0": DropStage.BEFORE_SHARES}
    for privacy in (None, Passing()):
        _, report = one_round(canaries, ["p0", name, "p1"], drops=drops, privacy=privacy)
        assert report.canary_products[canaries.members.index(name)] == pytest.approx(1.0, abs=0.02)


def test_the_same_seed_gives_the_same_canaries_and_another_seed_others():
    first, again, other = (build_canaries(audit_config(seed=seed), SIZE) for seed in (3, 3, 4))
    name = first.members[int(np.flatnonzero(first.included & other.included)[0])]
    np.testing.assert_array_equal(first.included, again.included)
    assert not np.array_equal(first.included, other.included)
    flat = [np.concatenate([t.ravel() for t in c.update(name, 1.0)]) for c in (first, again, other)]
    np.testing.assert_array_equal(flat[0], flat[1])
    assert abs(flat[0] @ flat[2]) < 6 / np.sqrt(SIZE.num_weights)
    assert np.linalg.norm(flat[0]) > 1.0  # the encoder clips it


def test_no_canaries_by_default():
    assert build_canaries(read_config(), SIZE) is None
    assert canary_names(read_config().audit) == ()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"audit.canaries": 19}, r"audit\.canaries = 19: too few to measure anything"),
        ({"client.weighting": "tokens"}, r"client\.weighting = tokens: a canary has no text"),
        ({"model.start_from_word_counts": True}, r"model\.start_from_word_counts = True: what the training adds"),
        ({"fleet.policy": "sync"}, r"fleet\.policy = sync: a canary has no phone"),
    ],
)
def test_what_canaries_can_not_go_with_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        audit_config(**overrides)


def test_a_person_with_a_canary_s_name_is_refused():
    vocabulary = Vocabulary((*SPECIAL_WORDS, "word"))
    data = ClientData(
        vocabulary, PeopleSplit((), (), ()), {ClientId("canary/3"): (np.array([4], np.int32),)}, {}, {}, ()
    )
    assert participants(read_config(), data) == ("canary/3",)
    with pytest.raises(ConfigError, match="client canary/3 of the text has a canary's name"):
        participants(audit_config(), data)
