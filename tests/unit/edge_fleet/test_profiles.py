"""The table of phones: what was measured comes out again, and drawn phones follow its distributions."""

from __future__ import annotations

import numpy as np
import pytest

from edge.fleet import profiles
from edge.on_device.estimates import estimate_lines, estimate_train_steps
from models.weights import ModelSize


@pytest.mark.parametrize("place", range(3))
def test_the_anchor_phones_come_out_at_the_measured_seconds_per_batch(place):
    table = profiles.load_device_table()["anchors"]
    tier = profiles.tiers()[place]
    for batch_size, measured in zip(table["batch_sizes"], table["phones"][place]["step_s"]):
        assert profiles.train_s(tier.devices, 1, batch_size)[0] == pytest.approx(measured, rel=1e-5)
        assert tier.train_step_ms[batch_size] == pytest.approx(1e3 * measured)


def test_a_low_phone_needs_about_80_seconds_for_400_sentences_and_a_high_one_about_30():
    """The scale of Bonawitz et al. 2019: rounds of two to three minutes."""
    seconds = [profiles.train_s(tier.devices, 40, 10)[0] for tier in profiles.tiers()]
    assert 70 < seconds[0] < 90
    assert 50 < seconds[1] < 60
    assert 28 < seconds[2] < 35


def test_more_work_and_slower_phones_take_longer():
    devices = profiles.draw_devices(1000, np.random.default_rng(0))
    slowest_first = np.argsort(-devices.slowness)
    for batch_size in (1, 5, 12, 50, 80):
        seconds = profiles.train_s(devices, 3, batch_size)[slowest_first]
        assert (np.diff(seconds) <= 1e-6).all()
    at_50, at_100 = (profiles.train_s(devices, 1, b) for b in (50, 100))
    np.testing.assert_allclose(at_100, 2 * at_50, rtol=1e-6)
    np.testing.assert_array_equal(profiles.train_s(devices, 1, 1), profiles.train_s(devices, 1, 5))


def test_drawn_phones_follow_the_table():
    """n = 200,000 draws; each share within 6 standard errors (false-alarm rate below 2e-9 a share)."""
    n = 200_000
    devices = profiles.draw_devices(n, np.random.default_rng(1))
    table = profiles.load_device_table()
    for code, name in enumerate(profiles.ACCESS):
        share = table["access_share"]["by_access"][name]
        own = devices.access == code
        assert abs(own.mean() - share) < 6 * np.sqrt(share * (1 - share) / n)
        median = profiles.network_kbit_per_s(name)[0]
        assert abs((devices.downlink_kbit_per_s[own] < median).mean() - 0.5) < 3 / np.sqrt(own.sum())
        ratio = table["uplink_ratio"]["by_access"][name]
        np.testing.assert_allclose(devices.uplink_kbit_per_s[own], ratio * devices.downlink_kbit_per_s[own], rtol=1e-5)
    share = np.mean([dict(map(tuple, b["ram_mib"])).get(4096, 0) for b in table["slowness"]["in_use"]["bins"]])
    assert abs((devices.ram_mib == 4096).mean() - share) < 6 * np.sqrt(share * (1 - share) / n) + 1e-4
    assert np.corrcoef(devices.slowness, devices.ram_mib)[0, 1] < -0.5  # slow phones have little memory


def test_every_figure_of_the_table_names_its_source_and_shares_sum_to_one():
    table = profiles.load_device_table()
    assert all(part["source"] for name, part in table.items() if name != "schema")
    assert sum(table["access_share"]["by_access"].values()) == pytest.approx(1)
    for population in ("listed", "in_use"):
        for own in table["slowness"][population]["bins"]:
            for name in ("ram_mib", "android"):
                assert sum(share for _, share in own[name]) == pytest.approx(1, abs=1e-3)


def test_tiers_are_those_of_the_nearest_anchor():
    assert profiles.tier_of(np.array([5.0, 1.43, 1.0, 0.58, 0.4])).tolist() == [0, 0, 1, 2, 2]
    assert [int(profiles.tier_of(t.devices.slowness)[0]) for t in profiles.tiers()] == [0, 1, 2]


def test_the_same_seed_draws_the_same_phones_and_none_is_possible():
    first, again = (profiles.draw_devices(50, np.random.default_rng(3), "listed") for _ in range(2))
    np.testing.assert_array_equal(first.slowness, again.slowness)
    assert len(profiles.draw_devices(0, np.random.default_rng(3))) == 0


def test_the_spread_over_the_listed_phones_rises():
    spread = profiles.slowness_quantiles([0, 10, 50, 90, 100])
    assert (np.diff(spread) > 0).all()
    assert spread[-1] / spread[0] > 10  # the list holds phones of 2010 and of 2019


def test_estimates_for_phones_are_ranges_around_the_measured_phones_and_name_their_source():
    size = ModelSize(10_000, 96, 670)
    rows = estimate_train_steps(size, 10, [5, 10, 50])
    table = profiles.load_device_table()["anchors"]
    for row in rows:
        place = table["batch_sizes"].index(row.batch)
        for phone in table["phones"]:
            low, high = row.tiers_ms[phone["tier"]]
            assert low < 1e3 * phone["step_s"][place] < high
        assert row.phones_ms["p10"] < row.phones_ms["p50"] < row.phones_ms["p90"]
    twice = estimate_train_steps(size, 20, [10])[0].phones_ms["p50"]
    assert twice == pytest.approx(2 * rows[1].phones_ms["p50"])
    assert "estimated" in estimate_lines(rows)[-1]
    assert "FLASH" in estimate_lines(rows)[-1]
