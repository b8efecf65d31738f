from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics import (
    ClientSums,
    PositionScores,
    difference_interval,
    score_positions,
    summarise,
    top1_per_client,
    worst_tenth_mean,
)
from models.ranks import target_ranks
from models.vocabulary import BOS, EOS, NUM_SPECIAL, PAD, UNK


def sums_of(hits1, positions, hits3=None, nll=None, oov=None) -> ClientSums:
    hits1, positions = np.array(hits1), np.array(positions)
    zeros = np.zeros(len(positions))
    return ClientSums(
        hits1=hits1,
        hits3=positions if hits3 is None else np.array(hits3),
        nll_sum_nats=zeros if nll is None else np.array(nll),
        positions=positions,
        oov=zeros.astype(int) if oov is None else np.array(oov),
    )


# Ranks and hits


def test_hits_of_a_hand_written_row():
    scores = np.array([[0.0, 0.0, 0.0, 0.0, 0.1, 0.4, 0.3, 0.2]])  # proposals: 5, 6, 7, 4
    for k, hit_words in [(1, [5]), (2, [5, 6]), (3, [5, 6, 7]), (4, [4, 5, 6, 7])]:
        hits = [word for word in (4, 5, 6, 7) if target_ranks(scores, np.array([word]))[0] < k]
        assert hits == hit_words


@pytest.mark.parametrize("special", [PAD, BOS, EOS, UNK])
def test_special_ids_are_never_proposed(special):
    scores = np.zeros((1, 7))
    scores[0, special] = 9.0
    scores[0, 4] = 1.0
    # The word comes first in spite of its lower score; the special id comes after all three words.
    assert target_ranks(np.repeat(scores, 2, 0), np.array([4, special])).tolist() == [0, 3]


def test_ties_go_to_the_smaller_id():
    scores = np.ones((4, 8))
    assert target_ranks(scores, np.array([4, 5, 6, 7])).tolist() == [0, 1, 2, 3]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_words=st.integers(1, 12), k=st.integers(1, 13))
def test_hits_equal_sorting(seed, num_words, k):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (6, NUM_SPECIAL + num_words)).astype(np.float32)  # few values: many ties
    targets = rng.integers(0, NUM_SPECIAL + num_words, 6)
    expected = []
    for row, target in zip(scores.tolist(), targets.tolist()):
        proposals = sorted(range(NUM_SPECIAL, len(row)), key=lambda word: (-row[word], word))
        expected.append(target in proposals[:k])
    words = targets >= NUM_SPECIAL
    assert ((target_ranks(scores, targets) < k) & words).tolist() == expected


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.zeros((0, 6)), [], r"scores must have the shape .*, got shape \(0, 6\)"),
        (np.zeros((1, 4)), [0], r"got shape \(1, 4\)"),
        (np.zeros(6), [4], r"got shape \(6,\)"),
        (np.zeros((2, 6)), [4], r"targets must have the shape \(2,\), got shape \(1,\)"),
        (np.zeros((1, 6)), [6], r"targets must be ids in 0\.\.5, got 6"),
        (np.zeros((1, 6)), [-1], r"targets must be ids in 0\.\.5, got -1"),
        (np.array([[0, 0, 0, 0, 0, np.nan]]), [4], r"scores must not be NaN, got scores\[0, 5\]=nan"),
    ],
)
def test_bad_scores(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        target_ranks(scores, np.array(targets, np.int64))


# Positions and sums


def hand_computed():
    """Five positions of two people over the words 4..7, and what they come to."""
    probabilities = np.array(
        [
            [0, 0, 0.1, 0.1, 0.5, 0.1, 0.1, 0.1],
            [0, 0, 0.1, 0.1, 0.5, 0.1, 0.1, 0.1],
            [0, 0, 0.6, 0.0, 0.1, 0.2, 0.1, 0.0],
            [0, 0, 0.0, 0.6, 0.1, 0.2, 0.05, 0.05],
            [0, 0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.5],
        ]
    )
    targets = np.array([4, 7, 5, 6, 5])  # ranks 0, 3 (ties of 5, 6, 7), 0, 2, 1 (tie of 5 and 6)
    return probabilities, targets, np.array([0, 0, 1, 1, 1])


def test_hand_computed_case():
    probabilities, targets, person = hand_computed()
    scores = score_positions(probabilities, targets, person)
    assert scores.hit1.tolist() == [True, False, True, False, False]
    assert scores.hit3.tolist() == [True, False, True, True, True]
    np.testing.assert_allclose(scores.nll_nats, -np.log([0.5, 0.1, 0.2, 0.05, 0.25]))

    sums = scores.client_sums(num_clients=3, oov=np.array([0, 1, 4]))
    assert sums.hits1.tolist() == [1, 1, 0]
    assert sums.hits3.tolist() == [1, 3, 0]
    assert sums.positions.tolist() == [2, 3, 0]
    np.testing.assert_allclose(sums.nll_sum_nats, -np.log([0.05, 0.0025, 1]))

    summary = summarise(sums, min_positions=2)
    assert (summary.top1, summary.top3) == (2 / 5, 4 / 5)
    assert summary.loss_nats_per_token == pytest.approx(-np.log(0.05 * 0.0025) / 5)
    assert summary.top1_per_client_mean == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert summary.top1_worst_tenth_mean is None
    # A quarter of the draws takes the first person twice, a quarter the second: the ends are their recalls.
    assert summary.top1_interval == pytest.approx((1 / 3, 1 / 2))
    assert (summary.clients, summary.clients_averaged, summary.min_positions) == (2, 2, 2)
    assert (summary.positions, summary.oov, summary.oov_rate) == (5, 5, 0.5)


def test_target_of_probability_zero_is_an_infinite_loss():
    scores = score_positions(np.array([[0, 0, 0, 0, 0.0, 1.0]]), np.array([4]), np.array([0]))
    assert scores.nll_nats.tolist() == [np.inf]


@pytest.mark.parametrize(
    ("probabilities", "target", "person", "message"),
    [
        ([[0, 0, 0, 0.5, 0.5]], [UNK], [0], r"targets must be words \(id >= 4\), got 3"),
        ([[0, 0, 0, 0, 1.5]], [4], [0], r"probabilities must be in 0\.\.1, got 1\.5"),
        ([[0, 0, 0, 0, -0.5]], [4], [0], r"probabilities must be in 0\.\.1, got -0\.5"),
        ([[0, 0, 0, 0, 1]], [4], [-1], "person must hold indices from 0, got -1"),
        ([[0, 0, 0, 0, 1]], [4], [0, 0], r"person must have the shape \(1,\), got shape \(2,\)"),
    ],
)
def test_bad_positions(probabilities, target, person, message):
    with pytest.raises(ValueError, match=message):
        score_positions(np.array(probabilities, float), np.array(target), np.array(person))


def test_bad_sums():
    scores = score_positions(*hand_computed())
    with pytest.raises(ValueError, match="got num_clients=1 and index 1"):
        scores.client_sums(num_clients=1)
    with pytest.raises(ValueError, match=r"oov and positions must have one shape .* \(1,\) and \(2,\)"):
        scores.client_sums(num_clients=2, oov=np.array([1]))
    with pytest.raises(ValueError, match="got 4, 4, 3 at client 1"):
        sums_of(hits1=[1, 4], hits3=[1, 4], positions=[2, 3])
    with pytest.raises(ValueError, match="got 2, 1, 3 at client 0"):
        sums_of(hits1=[2], hits3=[1], positions=[3])
    with pytest.raises(ValueError, match="got -1, 0, 3 at client 0"):
        sums_of(hits1=[-1], hits3=[0], positions=[3])
    with pytest.raises(ValueError, match=r"must have one shape \[num_clients\], got \(\) and \(\)"):
        ClientSums(*(np.array(0) for _ in range(5)))


def test_nothing_to_summarise():
    empty = PositionScores(np.zeros(0, bool), np.zeros(0, bool), np.zeros(0), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="sums must hold at least one scored position, got 0 from 2 clients"):
        summarise(empty.client_sums(num_clients=2))
    with pytest.raises(ValueError, match="got 0 from 0 clients"):
        summarise(sums_of([], []))


# Per person


def test_people_with_few_positions_stay_out_of_the_means():
    sums = sums_of(hits1=[19, 10, 0, 5], positions=[19, 20, 0, 50])
    assert top1_per_client(sums).tolist() == [0.5, 0.1]
    assert top1_per_client(sums, min_positions=1).tolist() == [1.0, 0.5, 0.1]
    summary = summarise(sums)
    assert (summary.min_positions, summary.clients_averaged, summary.clients) == (20, 2, 3)
    assert summary.top1_per_client_mean == pytest.approx(0.3)
    assert summary.top1 == 34 / 89  # pooled: everybody counts
    nobody = summarise(sums, min_positions=51)
    assert nobody.clients_averaged == 0
    assert nobody.top1_per_client_mean is None
    assert nobody.top1_worst_tenth_mean is None
    with pytest.raises(ValueError, match="min_positions must be at least 1, got min_positions=0"):
        summarise(sums, min_positions=0)


@pytest.mark.parametrize("people", [0, 1, 90])
def test_a_worst_tenth_of_fewer_than_ten_has_no_mean(people):
    assert worst_tenth_mean(np.arange(people) / 100) is None


@pytest.mark.parametrize(("people", "worst"), [(91, 10), (100, 10), (101, 11)])
def test_worst_tenth_is_rounded_up(people, worst):
    recalls = np.arange(people)[::-1] / 100
    assert worst_tenth_mean(recalls) == pytest.approx(sum(range(worst)) / worst / 100)


# Intervals


def test_interval_has_no_width_when_all_people_are_equal():
    summary = summarise(sums_of(hits1=[3, 6, 30], positions=[10, 20, 100]))
    assert summary.top1_interval == (0.3, 0.3)


def test_interval_is_over_people_not_positions():
    # Half of 2000 positions would be known to 2 % over positions; but all hits are one person's.
    summary = summarise(sums_of(hits1=[1000, 0], positions=[1000, 1000]))
    assert summary.top1_interval == (0.0, 1.0)


def test_people_without_positions_do_not_touch_the_interval():
    some = summarise(sums_of(hits1=[5, 9, 2], positions=[20, 30, 25]))
    more = summarise(sums_of(hits1=[5, 0, 9, 2, 0], positions=[20, 0, 30, 25, 0]))
    assert some.top1_interval == more.top1_interval


def test_interval_depends_on_the_seed_alone():
    rng = np.random.default_rng(5)
    positions = rng.integers(10, 100, 30)
    sums = sums_of(hits1=rng.binomial(positions, 0.2), positions=positions)
    intervals = [summarise(sums, num_resamples=200, seed=seed).top1_interval for seed in (1, 1, 2)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_one_person_has_no_interval():
    one = sums_of(hits1=[3, 0], positions=[10, 0])
    assert summarise(one).top1_interval is None
    with pytest.raises(ValueError, match="needs at least 2 clients with scored positions, got 1"):
        difference_interval(one, one)


def test_difference_interval_is_paired():
    # The people differ wildly, the two models by exactly one hit in ten for each of them.
    first = sums_of(hits1=[2, 18, 5, 10], positions=[10, 20, 10, 20])
    second = sums_of(hits1=[1, 16, 4, 8], positions=[10, 20, 10, 20])
    assert difference_interval(first, second) == pytest.approx((0.1, 0.1))
    assert difference_interval(second, first) == pytest.approx((-0.1, -0.1))
    assert difference_interval(first, first) == (0.0, 0.0)


def test_difference_of_other_positions_is_refused():
    with pytest.raises(ValueError, match="same positions, got 30 of 2 clients and 31 of 2 clients"):
        difference_interval(sums_of([1, 1], [10, 20]), sums_of([1, 1], [10, 21]))


def test_num_resamples_is_checked():
    with pytest.raises(ValueError, match="num_resamples must be at least 1, got num_resamples=0"):
        summarise(sums_of([1, 1], [10, 20]), num_resamples=0)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # n = 1000 sets of 60 people whose recalls come from Beta(4, 16): the pooled recall is 0.2 in truth.
    # A coverage of 0.92 (few people: a little narrow) gives fewer than 882 with probability 1.2e-5, one of
    # 0.96 gives 985 or more with probability 4e-6 (binomial tails). The same for the difference of two models
    # that are equally good in truth.
    rng = np.random.default_rng(2)
    covers = covers_difference = 0
    for seed in range(1000):
        positions = rng.integers(20, 200, 60)
        recalls = rng.beta(4, 16, 60)
        first = sums_of(hits1=rng.binomial(positions, recalls), positions=positions)
        second = sums_of(hits1=rng.binomial(positions, recalls), positions=positions)
        low, high = summarise(first, num_resamples=500, seed=seed).top1_interval
        covers += low <= 0.2 <= high
        low, high = difference_interval(first, second, num_resamples=500, seed=seed)
        covers_difference += low <= 0.0 <= high
    assert 882 <= covers < 985
    assert 882 <= covers_difference < 985
