"""The encoding is exact where it claims to be, unbiased elsewhere, and refuses what would wrap around."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.encoding import Encoder, NonFiniteUpdate, l2_norm
from orchestrator.errors import Diverged, ImplausibleSum

SHAPES = ((3, 4), (5,), ())


def _delta(rng, shapes=SHAPES, scale=0.1):
    return tuple(np.asarray(rng.standard_normal(shape) * scale, np.float32) for shape in shapes)


def _flat(tensors):
    return np.concatenate([np.ravel(tensor) for tensor in tensors]).astype(np.float64)


def _encoder(**overrides):
    arguments = {"clip_norm": 2.0, "num_clients": 7, "max_weight": 100.0, "shapes": SHAPES}
    arguments.update(overrides)
    return Encoder(**arguments)


@pytest.mark.parametrize("bits", [None, 20])
def test_decoded_sum_is_the_weighted_mean_within_the_stated_bound(bits):
    encoder = _encoder(bits=bits)
    rng = np.random.default_rng(0)
    deltas, weights = [_delta(rng) for _ in range(7)], [1, 100, 7, 0, 33, 50, 2]
    total = np.zeros(encoder.num_slots, np.uint32)
    for delta, weight in zip(deltas, weights):
        total += encoder.encode(delta, weight, rng)
    mean, weight_sum = encoder.decode(total, num_summed=7)

    assert weight_sum == sum(weights)
    assert [tensor.shape for tensor in mean] == list(SHAPES)
    assert all(tensor.dtype == np.float32 for tensor in mean)
    expected = sum(w * _flat(delta) for w, delta in zip(weights, deltas)) / sum(weights)
    bound = 7 * encoder.step * encoder.max_weight / weight_sum
    assert np.abs(_flat(mean) - expected).max() <= bound + 2.0**-21 * encoder.clip_norm


def test_rounding_is_unbiased():
    """Hoeffding: the mean of 4,000 roundings, each within one step of the truth, is off by more than t steps
    with probability at most 2 exp(-2 * 4000 t**2); for 18 coordinates and a false-alarm rate of 1e-9, t =
    0.0552."""
    num_trials, false_alarm = 4_000, 1e-9
    encoder = _encoder(bits=6)
    delta = _delta(np.random.default_rng(3))
    rng = np.random.default_rng(4)
    sums = np.zeros(encoder.dim)
    for _ in range(num_trials):
        sums += encoder.encode(delta, 60.0, rng)[: encoder.dim].view(np.int32)
    found = sums / num_trials

    finer = _encoder(bits=29)  # the same coordinates on a grid 2**23 times finer
    fine = finer.encode(delta, 60.0, rng)[: encoder.dim].view(np.int32) * (finer.step / encoder.step)
    limit = math.sqrt(math.log(2 * encoder.dim / false_alarm) / (2 * num_trials))
    assert limit < 0.056
    assert np.abs(found - fine).max() < limit + 1e-4
    assert np.abs(np.round(fine) - fine).max() > 4 * limit  # rounding to the nearest would have failed


def test_rounding_of_large_float32_coordinates_is_unbiased():
    """Above 2**23 a float32 is an integer: it must stay that integer, not become its neighbour half the
    time."""
    encoder = Encoder(clip_norm=1.0, num_clients=1, max_weight=1.0, shapes=((1,),), bits=26)
    delta = (np.full(1, 0.4, np.float32),)
    rng = np.random.default_rng(0)
    assert len({int(encoder.encode(delta, 1.0, rng)[0]) for _ in range(50)}) == 1


@pytest.mark.parametrize("num_clients", [1, 2, 3, 64])
def test_the_largest_sums_do_not_wrap_around(num_clients):
    encoder = Encoder(1.0, num_clients, max_weight=3.0, shapes=((1,), (2,)))
    rng = np.random.default_rng(0)
    for sign in (1.0, -1.0):
        delta = (np.array([sign * 1e20], np.float32), np.zeros(2, np.float32))
        total = np.zeros(encoder.num_slots, np.uint32)
        for _ in range(num_clients):
            total += encoder.encode(delta, 3.0, rng)
        mean, weight_sum = encoder.decode(total, num_clients)
        assert weight_sum == 3 * num_clients
        assert _flat(mean) == pytest.approx([sign, 0.0, 0.0], abs=1e-5)


def test_clips_to_the_norm_over_all_tensors_together():
    encoder = _encoder(clip_norm=1.0)
    delta = tuple(np.full(shape, 10.0, np.float32) for shape in SHAPES)
    mean, _ = encoder.decode(encoder.encode(delta, 100, np.random.default_rng(0)), 1)
    assert np.linalg.norm(_flat(mean)) == pytest.approx(1.0, abs=1e-5)
    assert np.ptp(_flat(mean)) < 1e-6  # the direction is kept


def test_a_wide_clip_and_all_the_bits_recover_federated_averaging():
    shapes = ((300,),)
    encoder = Encoder(clip_norm=100.0, num_clients=4, max_weight=8.0, shapes=shapes)
    rng = np.random.default_rng(0)
    deltas, weights = [_delta(rng, shapes) for _ in range(4)], [1, 2, 3, 4]
    total = sum(encoder.encode(delta, w, rng) for w, delta in zip(weights, deltas)).astype(np.uint32)
    (mean,), _ = encoder.decode(total, 4)
    np.testing.assert_allclose(mean, np.average([d[0] for d in deltas], axis=0, weights=weights), atol=2e-5)


def test_the_same_seed_gives_the_same_vector():
    encoder = _encoder()
    delta = _delta(np.random.default_rng(0))
    first, second = (encoder.encode(delta, 5, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.dtype == np.uint32
    assert first.shape == (18 + 1,)


def test_encode_leaves_the_update_alone():
    delta = _delta(np.random.default_rng(0), ((40,),))
    before = delta[0].copy()
    Encoder(1.0, 2, 1.0, ((40,),)).encode(delta, 1.0, np.random.default_rng(0))
    assert np.array_equal(delta[0], before)


def test_the_norm_is_taken_in_float64_over_all_tensors():
    assert l2_norm((np.float32([[3.0, 0.0]]), np.float32(4.0), np.float32([12.0]))) == 13.0
    assert l2_norm((np.float32([1e30, 1e30]),)) == pytest.approx(np.float32(1e30) * math.sqrt(2.0), rel=1e-12)
    assert l2_norm((np.full(1 << 24, 0.1, np.float32),)) == pytest.approx(4096 * float(np.float32(0.1)), rel=1e-12)
    assert l2_norm((np.float32([1.0, math.nan]),)) == math.inf


def test_fractional_weights_are_kept_to_their_grid():
    encoder = _encoder(max_weight=1.0, bits=29)
    rng = np.random.default_rng(0)
    total = encoder.encode(_delta(rng), 0.3, rng) + encoder.encode(_delta(rng), 0.55, rng)
    assert encoder.decode(total, 2)[1] == pytest.approx(0.85, abs=2 * 2.0**-28)


def test_weights_beyond_the_grid_are_rounded_without_bias():
    """Weights up to 1000 on a grid of 4 bits: 200 is 1.5625 steps of 128. 3,000 draws, Hoeffding at a
    false-alarm rate of 1e-9 gives a limit of 0.0598 steps."""
    encoder = _encoder(bits=4, max_weight=1000.0)
    rng = np.random.default_rng(0)
    delta = _delta(rng)
    found = np.mean([encoder.encode(delta, 200.0, rng)[-1] for _ in range(3_000)])
    assert abs(found - 1.5625) < 0.06


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"bits": 30}, "num_clients=7 stay below 2**32, got bits=30"),
        ({"bits": 1}, "got bits=1"),
        ({"num_clients": 2**31}, "got bits=1"),
        ({"num_clients": 0}, "num_clients=0"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"clip_norm": 1e-320}, "clip_norm must be at least"),  # its grid has no width
        ({"clip_norm": math.nan}, "clip_norm=nan"),
        ({"max_weight": -1.0}, "max_weight=-1.0"),
        ({"shapes": ()}, "shapes=()"),
    ],
)
def test_refuses_parameters_out_of_range(overrides, text):
    with pytest.raises(ValueError, match=".*") as caught:
        _encoder(**overrides)
    assert text in str(caught.value)


def test_takes_exactly_the_headroom():
    assert [_encoder(num_clients=n).bits_used for n in (1, 2, 3, 4, 5, 1000, 1024, 1025)] == [
        32, 31, 30, 30, 29, 22, 22, 21,
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_refuses_a_diverged_update(bad):
    delta = _delta(np.random.default_rng(0))
    delta[1][2] = bad
    with pytest.raises(NonFiniteUpdate, match="learning rate"):
        _encoder().encode(delta, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("weight", [-1.0, 100.5, math.nan, math.inf])
def test_refuses_a_weight_out_of_range(weight):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="weight must lie in"):
        _encoder().encode(_delta(rng), weight, rng)


def test_refuses_another_shape_and_a_wrong_total():
    encoder, rng = _encoder(), np.random.default_rng(0)
    with pytest.raises(ValueError, match="shapes"):
        encoder.encode(_delta(rng, ((4, 3), (5,), ())), 1.0, rng)
    with pytest.raises(ValueError, match="num_summed=0"):
        encoder.decode(np.ones(encoder.num_slots, np.uint32), 0)
    with pytest.raises(ValueError, match="num_summed=8"):
        encoder.decode(np.ones(encoder.num_slots, np.uint32), 8)
    with pytest.raises(ValueError, match=r"uint32 \[19\]"):
        encoder.decode(np.ones(encoder.num_slots + 1, np.uint32), 2)
    with pytest.raises(Diverged, match="all 2 clients diverged"):
        encoder.decode(np.zeros(encoder.num_slots, np.uint32), 2)


@pytest.mark.parametrize("bits", [4, 12, None])
@pytest.mark.parametrize("weight", [1.0, 99.5, 100.0])
def test_the_longest_honest_sum_passes_and_its_mean_is_one_clip_norm_long(bits, weight):
    encoder, rng = _encoder(bits=bits, least_weight=1.0), np.random.default_rng(0)
    delta = tuple(1e3 * tensor for tensor in _delta(rng))  # all go the same way, far beyond the clip norm
    total = sum(encoder.encode(delta, weight, rng) for _ in range(7)).astype(np.uint32)
    encoder.check_sum(total, 7)
    if bits is None:
        assert l2_norm(encoder.decode(total, 7)[0]) == pytest.approx(encoder.clip_norm, rel=1e-5)


def test_a_liar_s_mean_is_one_clip_norm_long_at_most():
    """Found on honest sums: the weights cancelled gave a traceback, one unit left of them a mean of 1.5e7 norms."""
    encoder, rng = _encoder(least_weight=1.0), np.random.default_rng(0)
    vectors = [encoder.encode(_delta(rng), 100.0, rng) for _ in range(7)]
    honest = sum(vectors).astype(np.uint32)
    for words, refused in (
        ({-1: -int(honest[-1])}, "updates is .* long"),  # no weight, but coordinates
        ({-1: 1 - int(honest[-1])}, "the weights of 7 clients sum to"),
        ({-1: int(encoder._weight_scale) - int(honest[-1])}, "updates is .* long"),  # the least of one client
        ({-1: 1}, "the weights of 7 clients sum to 700"),
        ({0: 2**31 - int(honest[0])}, "updates is .* long"),
    ):
        total = honest.copy()
        for slot, amount in words.items():
            total[[slot]] += np.uint32(amount % 2**32)  # an array wraps silently, a scalar warns
        with pytest.raises(ImplausibleSum, match=refused):
            encoder.decode(total, 7)


@pytest.mark.parametrize("bits", [12, None])  # of fewer bits a weight's rounding up is seen in the bound, too
def test_a_sum_of_seven_is_at_most_seven_bounds_long(bits):
    encoder = _encoder(bits=bits)
    total = np.zeros(encoder.num_slots, np.uint32)
    total[-1] = round(700 * encoder._weight_scale)  # all seven have the largest weight
    total[0] = math.floor(7 * encoder.l2_bound)
    encoder.check_sum(total, 7)
    total[0] += 2  # one for the floor, one beyond
    with pytest.raises(ImplausibleSum, match="the sum of 7 updates is .* long"):
        encoder.check_sum(total, 7)


def test_the_noise_in_a_sum_widens_its_bound():
    encoder, rng = _encoder(bits=12, max_weight=1.0), np.random.default_rng(0)
    total = encoder.encode(_delta(rng), 1.0, rng)
    total[: encoder.dim] += np.int64(np.rint(rng.normal(0, 5000, encoder.dim))).astype(np.uint32)
    with pytest.raises(ImplausibleSum, match="long"):
        encoder.check_sum(total, 1)
    encoder.check_sum(total, 1, noise_stddev=5000)


def test_clip_count_travels_in_its_own_slot():
    encoder = _encoder(clip_norm=1.0, count_under_clip=True)
    rng = np.random.default_rng(0)
    deltas = [_delta(rng, scale=scale) for scale in (0.01, 0.01, 10.0, 0.01)]
    total = sum(encoder.encode(delta, 10, rng) for delta in deltas).astype(np.uint32)
    assert total.shape == (18 + 2,)
    assert encoder.share_under_clip(total, 4) == 0.75
    assert encoder.decode(total, 4)[1] == 40.0
    with pytest.raises(ValueError, match="count_under_clip"):
        _encoder().share_under_clip(total[1:], 4)


@pytest.mark.parametrize("size", [1e30, 1e38, 3e38])
def test_huge_finite_update_stays_within_the_l2_bound(size):
    encoder = Encoder(clip_norm=1.0, num_clients=16, max_weight=1, shapes=((4096,),))
    vector = encoder.encode((np.full(4096, size, np.float32),), 1.0, np.random.default_rng(1))
    assert np.linalg.norm(vector[:4096].view(np.int32).astype(np.float64)) <= encoder.l2_bound


def test_no_more_clients_are_under_the_clip_norm_than_were_summed():
    encoder, rng = _encoder(count_under_clip=True), np.random.default_rng(0)
    total = encoder.encode(_delta(rng), 1.0, rng)
    encoder.check_sum(total, 1)
    total[encoder.dim] = 2
    with pytest.raises(ImplausibleSum, match="2 of 1 clients are under the clip norm"):
        encoder.check_sum(total, 1)
