"""The attack of Mironov 2012 on everything that is released under noise. No TFF."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from mironov import double_sum, doubles_near, possible_starts, whole_near
from private_round import Size, run, settings

import orchestrator
from orchestrator.aggregator import PlainSum
from orchestrator.privacy import noise
from orchestrator.privacy.mechanism import Mechanism
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.rounds.build import build_encoder
from orchestrator.vocabulary.discover import SecureTotal
from orchestrator.vocabulary.prefix_tree import Level, choose_nodes


def test_the_attack_tells_what_a_double_began_with_and_no_whole_number():
    """The control: the same noise on a count of 0 or of 1, once as a double and once rounded."""
    draws = noise.normal(bytes(32), "count", 2000) * 2.7
    told = [len(possible_starts(draw, (0.0, 1.0), double_sum, doubles_near)) for draw in draws]
    assert 0.05 < np.mean(np.array(told) == 1) < 0.3  # with certainty, whatever epsilon says
    whole = np.rint(draws)
    assert all(len(possible_starts(own, (0.0, 1.0), double_sum, doubles_near)) == 2 for own in whole)
    # A release of doubles would fail the tests below: no number of whole steps reaches it.
    assert not any(possible_starts(own, (0, 1), double_sum, whole_near(float)) for own in draws)


def test_nothing_else_draws_noise_that_is_released():
    """Whoever draws it anew adds the release to the tests here."""
    draws = re.compile(r"noise\.normal\(|discrete_normal|draw_skellam\(")
    root = Path(orchestrator.__file__).parent
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if draws.search(path.read_text())}
    own = {"privacy/noise.py", "vocabulary/skellam.py"}
    assert found == own | {"privacy/mechanism.py", "privacy/mechanisms.py", "vocabulary/discover.py"}


@pytest.mark.parametrize("mechanism", [name for name, kind in MECHANISMS.items() if kind.traits.adds_noise])
def test_no_released_mean_or_count_tells_what_it_began_with(tmp_path, monkeypatch, mechanism):
    """A released mean and a noised count are reached as well from one step, or one client, more."""
    adaptive = mechanism == "central"
    config = settings(
        mechanism,
        privacy__adaptive_clip=adaptive,
        privacy__noise_multiplier=1.7,
        privacy__clip_norm=1.0,
        aggregation__aggregator="secagg",
    )
    release, seen = Mechanism.release, []

    def remember(self, total, encoder, cohort):
        released = release(self, total, encoder, cohort)
        seen.append((total, encoder, released))
        return released

    monkeypatch.setattr(Mechanism, "release", remember)
    run(config, tmp_path, 9)  # more rounds than the matrix takes back at once
    size = config.rounds.cohort_size
    for total, encoder, released in seen:
        for start, own in _small_steps(total, encoder, released.mean_delta[0], size):
            starts = (start, start + 1, start - 1)
            found = possible_starts(
                own,
                starts,
                lambda s, n, encoder=encoder: np.float32((s + n) * (encoder.step * encoder.max_weight / size)),
                whole_near(lambda mean, encoder=encoder: float(mean) * size / encoder.step),
            )
            assert found == list(starts)
        if adaptive:
            starts, value_of = range(size + 1), lambda s, n: (s + n) / size
            share = released.share_under_clip
            assert possible_starts(share, starts, value_of, whole_near(lambda own: own * size)) == list(starts)
    assert len(seen) == 9


def _small_steps(total, encoder, mean, size):
    """(true sum, released mean) of the coordinates whose sum float32 holds to the step; larger ones it rounds."""
    steps = mean.astype(np.float64) * size / encoder.step
    places = np.flatnonzero(np.abs(steps) < 2**23)[:40]
    assert len(places) > 10
    return zip(total[places].view(np.int32).tolist(), mean[places])


@pytest.mark.parametrize("mechanism", [name for name, kind in MECHANISMS.items() if kind.client_noise])
def test_no_upload_tells_what_it_began_with(tmp_path, mechanism):
    """What a client sends is whole numbers modulo 2**32, from whatever it began with."""
    config = settings(mechanism, aggregation__aggregator="secagg")
    bound = Mechanism(config, bytes(32), None)
    encoder = build_encoder(config, Size)
    vector = np.zeros(encoder.num_slots, np.uint32)
    noised = bound.client_noise(vector, encoder, 1, "p0")
    assert noised.dtype == np.uint32
    drawn = noised[: encoder.dim].view(np.int32)
    assert len(np.unique(drawn % 2)) == 2  # odd and even steps: no coarser grid that a step would leave
    assert noised[encoder.dim :].tolist() == vector[encoder.dim :].tolist()


def test_no_slot_of_the_word_list_tells_what_it_began_with():
    nodes = {f"p{i}": choose_nodes({"ab": 1}, 100) for i in range(9)}
    totals = SecureTotal(nodes, PlainSum(), 30.0)(Level("ab", ()))
    assert totals.dtype == np.int64
    for total in totals.tolist():
        assert possible_starts(total, (0, 1, 9), double_sum, whole_near(float)) == [0, 1, 9]
