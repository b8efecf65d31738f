"""One round: what is summed, what is dropped, what is reported. No TFF: functions of the test train and step."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from models.batches import build_batches
from orchestrator.aggregator import Cohort, DropStage, PlainSum
from orchestrator.encoding import Encoder
from orchestrator.rounds.build import client_weight
from orchestrator.rounds.round import run_round, weights_digest
from orchestrator.rounds.types import RoundFunctions, ServerState
from orchestrator.seeds import dropout_seed
from orchestrator.settings.files import read_config

SHAPES = ((3, 2), (4,))
START = (np.arange(6, dtype=np.float32).reshape(3, 2), np.ones(4, np.float32))
MEMBERS = tuple(f"p{i}" for i in range(5))


class NoClock:
    def stage(self, name):
        return contextlib.nullcontext()


def batches_of(person, rng):
    """The person's number says how many sentences they have, so that weights differ."""
    count = int(person[1:]) + 1
    return build_batches([np.array([4 + count])] * count, batch_size=2, time=3, rng=rng)


def delta_of(batches):
    """A client's update as a known function of its data."""
    return tuple(np.full(shape, batches.num_examples / 10, np.float32) for shape in SHAPES)


def train_clients(weights, learning_rate, seed, all_batches):
    for batches in all_batches:
        yield {
            "delta": tuple(learning_rate * d for d in delta_of(batches)),
            "num_examples": batches.num_examples,
            "num_tokens": batches.num_tokens,
            "loss_sum": 2.0 * batches.num_tokens,
            "is_finite": True,
        }


def functions(**changes):
    plain = RoundFunctions(
        batches_of=batches_of,
        train_clients=train_clients,
        weight_of=lambda update: update.num_examples,
        encoder=Encoder(clip_norm=100.0, num_clients=5, max_weight=8, shapes=SHAPES),
        aggregator=PlainSum(),
        update_server=lambda state, weights, mean, rate: (
            state + 1,
            tuple(w - rate * m for w, m in zip(weights, mean)),
        ),
    )
    return replace(plain, **changes)


def one_round(state=None, drops=None, min_survivors=1, seed=7, **changes):
    cohort = Cohort(1, MEMBERS, min_survivors)
    return run_round(
        state or ServerState(0, START, 0),
        cohort,
        functions(**changes),
        seed=seed,
        client_learning_rate=1.0,
        server_learning_rate=0.5,
        stopwatch=NoClock(),
        drops=drops,
    )


def expected_weights(people):
    examples = np.array([int(p[1:]) + 1 for p in people])
    mean = (examples * examples / 10).sum() / examples.sum()
    return tuple(w - np.float32(0.5 * mean) for w in START)


def test_a_round_is_the_weighted_mean_of_the_updates():
    after, report = one_round()
    for got, wanted in zip(after.weights, expected_weights(MEMBERS)):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert after.round_num == 1
    assert after.optimizer_state == 1
    assert report.outcome == "completed"
    assert report.selected == report.survivors == MEMBERS
    assert report.metrics["num_examples"] == 15
    assert report.metrics["num_tokens"] == 30
    assert report.metrics["client_batches"] == 1 + 1 + 2 + 2 + 3
    assert report.metrics["train_loss"] == pytest.approx(2.0)
    assert report.weights_sha256 == weights_digest(after.weights)
    assert report.epsilon is None


@pytest.mark.parametrize(
    ("stage", "counts"),
    [(DropStage.BEFORE_SHARES, False), (DropStage.BEFORE_UPLOAD, False), (DropStage.BEFORE_UNMASK, True)],
)
def test_a_drop_out_counts_only_after_its_upload(stage, counts):
    after, report = one_round(drops={"p4": stage})
    people = MEMBERS if counts else MEMBERS[:4]
    assert report.survivors == people
    for got, wanted in zip(after.weights, expected_weights(people)):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_who_vanishes_first_trains_nothing():
    _, report = one_round(drops={"p4": DropStage.BEFORE_SHARES})
    assert report.metrics["num_examples"] == 10


@pytest.mark.parametrize("says_so", [True, False], ids=["flagged", "overflows in the difference"])
def test_a_non_finite_update_is_sent_as_zeros_of_weight_zero(says_so):
    def diverge(weights, learning_rate, seed, all_batches):
        for number, result in enumerate(train_clients(weights, learning_rate, seed, all_batches)):
            if number == 2:
                result["delta"][0][0, 0] = np.nan
                result["is_finite"] = not says_so
            yield result

    sent = Recorded()
    after, report = one_round(train_clients=diverge, aggregator=sent)
    assert report.survivors == MEMBERS, "who is missing would tell of a text"
    assert [name for name, vector in sent.vectors.items() if not vector.any()] == ["p2"]
    assert report.metrics["non_finite_clients"] == 1
    assert report.metrics["num_examples"] == 15 - 3
    for got, wanted in zip(after.weights, expected_weights(("p0", "p1", "p3", "p4"))):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


class Recorded(PlainSum):
    """A plain sum that keeps what it was handed, and can add a liar's words to it."""

    def __init__(self, lie=None):
        self.vectors, self.lie = {}, lie or {}

    def sum(self, vectors, cohort, drops):
        def kept():
            for name, vector in vectors:
                self.vectors[name] = vector.copy()
                yield name, vector

        result = super().sum(kept(), cohort, drops)
        for slot, amount in self.lie.items():
            result.total[[slot]] += np.uint32(amount % 2**32)  # an array wraps silently, a scalar warns
        return result


def test_a_round_in_which_all_diverge_is_abandoned():
    def diverge(*args):
        for result in train_clients(*args):
            yield {**result, "is_finite": False}

    after, report = one_round(train_clients=diverge)
    assert (report.outcome, after.weights) == ("abandoned", START)
    assert report.reason == "round 1: the training of all 5 clients diverged: lower client.learning_rate"
    assert report.metrics["non_finite_clients"] == 5


@pytest.mark.parametrize("lie", ["weights cancel", "weights beyond all", "one weight left", "a long update"])
def test_a_sum_that_no_honest_clients_give_is_abandoned(lie):
    honest = Recorded()
    one_round(aggregator=honest)
    weights = int(sum(int(vector[-1]) for vector in honest.vectors.values()))
    words = {
        "weights cancel": {-1: -weights},
        "weights beyond all": {-1: -weights - 1},
        "one weight left": {-1: 1 - weights},
        "a long update": {0: 2**30},
    }
    after, report = one_round(aggregator=Recorded(words[lie]))
    assert (report.outcome, after.weights) == ("abandoned", START)
    assert "honest ones" in report.reason


def test_too_few_survivors_abandon_the_round_and_keep_the_weights():
    drops = dict.fromkeys(MEMBERS[:3], DropStage.BEFORE_UPLOAD)
    after, report = one_round(drops=drops, min_survivors=3)
    assert report.outcome == "abandoned"
    assert report.reason == "round 1: 2 of 5 clients are left, 3 needed"
    assert report.survivors == ()
    assert after.weights is START
    assert after.round_num == 1
    everybody = dict.fromkeys(MEMBERS, DropStage.BEFORE_SHARES)
    assert one_round(drops=everybody)[1].outcome == "abandoned"


def test_a_round_is_a_function_of_the_seed():
    first, again, other = (one_round(seed=seed)[1].weights_sha256 for seed in (1, 1, 2))
    assert first == again
    assert first != other, "another seed rounds otherwise"


def test_each_round_drops_out_by_its_own_seed():
    """The clients get the round's own dropout seed; the last 31 bits of a draw that the seed and the round decide."""
    seeds = []

    def train(weights, learning_rate, seed, all_batches):
        seeds.append(seed)
        return train_clients(weights, learning_rate, seed, all_batches)

    for round_num in (1, 2, 3):
        run_round(
            ServerState(round_num - 1, START, 0), Cohort(round_num, MEMBERS), functions(train_clients=train),
            seed=7, client_learning_rate=1.0, server_learning_rate=0.5, stopwatch=NoClock(),
        )  # fmt: skip
    assert seeds == [dropout_seed(7, round_num) for round_num in (1, 2, 3)]
    assert len({*seeds, *(dropout_seed(8, round_num) for round_num in (1, 2, 3))}) == 6


# Ann types three sentences of one word, Bob one of three. With the end of each sentence that is 6 and 4 tokens to
# predict. Ann's update is 1 in each coordinate, Bob's 4.
@pytest.mark.parametrize(("weighting", "mean"), [("tokens", 2.2), ("examples", 1.75), ("equal", 2.5)])
def test_a_clients_weight_by_hand(weighting, mean):
    sentences = {"ann": [np.array([5])] * 3, "bob": [np.array([5, 6, 7])]}
    config = read_config(overrides={"client.weighting": weighting, "rounds.cohort_size": 2})

    def train(weights, learning_rate, seed, all_batches):
        for value, batches in zip((1.0, 4.0), all_batches):
            yield {
                "delta": tuple(np.full(shape, value, np.float32) for shape in SHAPES),
                "num_examples": batches.num_examples,
                "num_tokens": batches.num_tokens,
                "loss_sum": 0.0,
                "is_finite": True,
            }

    after, _ = run_round(
        ServerState(0, START, 0),
        Cohort(1, ("ann", "bob")),
        functions(
            batches_of=lambda person, rng: build_batches(sentences[person], batch_size=2, time=5, rng=rng),
            train_clients=train,
            weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
        ),
        seed=7, client_learning_rate=1.0, server_learning_rate=1.0, stopwatch=NoClock(),
    )  # fmt: skip
    for start, got in zip(START, after.weights):
        np.testing.assert_allclose(start - got, mean, atol=1e-4)


def test_long_updates_are_clipped_and_counted():
    encoder = Encoder(clip_norm=0.5, num_clients=5, max_weight=8, shapes=SHAPES)
    after, report = one_round(encoder=encoder)
    lengths = [np.sqrt(10) * (i + 1) / 10 for i in range(5)]
    assert report.metrics["clipped_clients"] == sum(length > 0.5 for length in lengths) == 4
    clipped = [min(length, 0.5) / length * (i + 1) / 10 for i, length in enumerate(lengths)]
    mean = sum(c * (i + 1) for i, c in enumerate(clipped)) / 15
    np.testing.assert_allclose(after.weights[1], START[1] - 0.5 * mean, atol=1e-5)


def test_the_average_follows_the_weights():
    state = ServerState(0, START, 0)
    for round_num in (1, 2):
        cohort = Cohort(round_num, MEMBERS)
        before = state
        state, report = run_round(
            state,
            cohort,
            functions(average_decay=0.9),
            seed=1,
            client_learning_rate=1.0,
            server_learning_rate=0.5,
            stopwatch=NoClock(),
        )
    keep = 2 / 12  # round 2 of a memory that grows
    wanted = keep * before.average[0] + (1 - keep) * state.weights[0]
    np.testing.assert_allclose(state.average[0], wanted, rtol=1e-6)
    assert state.model is state.average
    assert report.weights_sha256 == weights_digest(state.average)
