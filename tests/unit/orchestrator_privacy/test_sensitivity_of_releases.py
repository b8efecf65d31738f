"""How far one person can move each release, found again by trying everything on small cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from orchestrator.encoding import Encoder
from orchestrator.privacy.accounting import cost_of
from orchestrator.privacy.calibration import update_noise
from orchestrator.privacy.correlated import unit_responses
from orchestrator.privacy.mechanism import client_stddev
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.privacy.participation import History
from orchestrator.settings.files import read_config
from orchestrator.settings.noise_shape import INDEPENDENT, Buffer, NoiseShape
from orchestrator.vocabulary.prefix_tree import Level, choose_nodes

DIM = 4


class _Rounds:
    """A generator that rounds the coordinates up where `ups` says so."""

    def __init__(self, ups):
        self._ups = np.array(ups, bool)

    def random(self, out=None, dtype=None):
        if out is None:
            return 0.5
        out[:] = np.where(self._ups, 0.0, 1.0 - 2.0**-24)
        return out


def _encoded(encoder, update):
    """The coordinates of an update under each of the 2**DIM roundings."""
    for ups in itertools.product((False, True), repeat=DIM):
        vector = encoder.encode((np.float32(update),), 1.0, _Rounds(ups))
        yield vector[:DIM].view(np.int32).astype(float), int(vector[DIM]) if encoder.count_under_clip else None


def _updates(rng):
    """Updates of lengths around the clip norm of 1, in directions with few and with many coordinates."""
    for _ in range(40):
        direction = rng.standard_normal(DIM) * (rng.random(DIM) < 0.7)
        length = np.linalg.norm(direction) or 1.0
        for norm in (0.0, 0.3, 1.0 - 1e-6, 1.0, 1.0 + 1e-6, 5.0):
            yield norm * direction / length


@pytest.mark.parametrize("bits", [4, 8, 20])
def test_no_rounding_of_an_update_is_longer_than_the_bound(bits):
    encoder = Encoder(clip_norm=1.0, num_clients=5, max_weight=1, shapes=((DIM,),), bits=bits)
    norms = [
        np.linalg.norm(vector)
        for update in _updates(np.random.default_rng(0))
        for vector, _ in _encoded(encoder, update)
    ]
    assert encoder.clip_norm / encoder.step < max(norms) <= encoder.l2_bound


def test_update_and_count_together_cost_at_most_the_noise_multiplier():
    """With an adaptive clip a person moves the sum by its update and the count by its bit; zeros have the bit."""
    encoder = Encoder(clip_norm=1.0, num_clients=5, max_weight=1, shapes=((DIM,),), bits=8, count_under_clip=True)
    multiplier, count_noise = 1.3, 2.5
    stddev = update_noise(multiplier, count_noise) * encoder.l2_bound
    (_, bit_of_zeros), *_ = _encoded(encoder, np.zeros(DIM))
    shifts = [
        float(vector @ vector) / stddev**2 + (bit - bit_of_zeros) ** 2 / count_noise**2
        for update in _updates(np.random.default_rng(1))
        for vector, bit in _encoded(encoder, update)
    ]
    assert 0.7 / multiplier**2 < max(shifts) <= 1 / multiplier**2


def _patterns(num_rounds, separation):
    """Every set of rounds that lie `separation` apart or more."""
    for rounds in itertools.chain.from_iterable(
        itertools.combinations(range(1, num_rounds + 1), k) for k in range(1, num_rounds // separation + 2)
    ):
        if all(b - a >= separation for a, b in zip(rounds, rounds[1:])):
            yield rounds


BUFFERS = NoiseShape(buffers=(Buffer(0.95, 0.15), Buffer(0.6, 0.3)))


@pytest.mark.parametrize(
    ("mechanism", "num_rounds", "separation", "shape"),
    [
        ("matrix", 8, 3, NoiseShape(3)),
        ("matrix", 9, 4, NoiseShape(2)),
        ("matrix", 7, 1, NoiseShape(1)),
        ("blt", 8, 3, BUFFERS),
        ("blt", 7, 1, BUFFERS),
        ("tree", 8, 3, INDEPENDENT),
        ("tree", 7, 1, INDEPENDENT),
    ],
)
def test_what_all_rounds_together_tell_is_what_was_charged(mechanism, num_rounds, separation, shape):
    """The releases are normal, with the covariance of the noise that is really drawn; the shift is the person's.

    So what they tell is the shift's squared length in that covariance, for each pattern of participation and each sign.
    """
    sequence = MECHANISMS[mechanism].sequence
    responses = unit_responses(lambda draw: sequence(shape, draw), num_rounds)
    precision = np.linalg.inv(responses @ responses.T)
    reached = 0.0
    for rounds in _patterns(num_rounds, separation):
        told = 0.0
        for signs in itertools.product((1.0, -1.0), repeat=len(rounds)):
            shift = np.zeros(num_rounds)
            shift[np.array(rounds) - 1] = signs
            told = max(told, float(shift @ precision @ shift))
        history = History(mechanism, 1.0, separation, shape)
        for round_num in range(1, num_rounds + 1):
            history.add(round_num, ["p"] if round_num in rounds else [])
        charged = 2 * cost_of(history.event()).zcdp
        assert told <= charged * (1 + 1e-5)  # the matrix's ring holds float32
        reached = max(reached, told / charged)
    assert reached > 0.6 if mechanism == "tree" else reached == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("max_nodes", [1, 4, 9])
def test_a_person_changes_at_most_max_nodes_slots_over_all_levels_each_by_one(max_nodes):
    letters = "ab"
    words = ["".join(word) for length in range(1, 6) for word in itertools.product(letters, repeat=length)]
    levels = [Level(letters, ())]
    for depth in (3, 4, 5):
        levels.append(Level(letters, tuple("".join(prefix) for prefix in itertools.product(letters, repeat=depth))))
    rng = np.random.default_rng(0)
    most = 0
    for _ in range(200):
        own = {word: int(count) for word, count in zip(words, rng.integers(0, 4, len(words))) if count}
        nodes = choose_nodes(own, max_nodes)
        changed = 0
        for level in levels:
            slots = level.slots(nodes)
            assert len(set(slots.tolist())) == len(slots)  # each by one
            changed += len(slots)
        assert changed == len(nodes) <= max_nodes  # a node is a slot of one level only
        most = max(most, changed)
    assert most == max_nodes


def test_noise_of_the_fewest_survivors_is_that_of_the_whole_sum():
    """Distributed noise: a share of each, of variance (z * bound)**2 / fewest, so the fewest have all of it."""
    config = read_config(
        preset="private",
        overrides={
            "privacy.mechanism": "distributed",
            "privacy.noise_multiplier": 2.0,
            "aggregation.min_survivors": 7,
        },
    )
    encoder = Encoder(clip_norm=2.0, num_clients=70, max_weight=1, shapes=((DIM,),))
    assert math.sqrt(7) * client_stddev(config, encoder) == pytest.approx(2.0 * encoder.l2_bound)
