"""fedkeys privacy --population: figures by hand and by another accountant, for the folders that training leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from dp_accounting import GaussianDpEvent, pld

from orchestrator.cli.commands import cli
from orchestrator.errors import ConfigError
from orchestrator.evaluation.privacy import run_privacy
from orchestrator.evaluation.projection import project, project_run
from orchestrator.privacy.buffers import choose_buffers
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.correlated import buffered_noise, prefix_variances
from orchestrator.privacy.ledger import LedgerHead
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config
from tests.unit.orchestrator_evaluation.test_privacy import build_run  # 40 people, 8 rounds, cohorts of 10, noise 2


def test_the_first_row_is_the_run(tmp_path):
    run = read_run(build_run(tmp_path / "run"))
    (own, *_), result = project_run(run, [1000]), run_privacy(run)
    assert (own.people, own.cohort_size, own.separation, own.participations) == (40, 10, 4, 2)
    assert own.epsilon == pytest.approx(result.epsilon[result.delta])
    assert own.multiplier_here == 2.0
    by_hand = 2.0 * np.sqrt(np.arange(1, 9).mean()) / 10  # independent noise: after round t its variance is t
    assert own.running_noise == pytest.approx(by_hand)


def test_more_people_take_part_less_often_or_in_larger_cohorts(tmp_path):
    _, same, grown = project_run(read_run(build_run(tmp_path / "run")), [1000])
    delta = 1000**-1.1
    assert (same.cohort_size, same.separation, same.participations) == (10, 100, 1)
    assert (grown.cohort_size, grown.separation, grown.participations) == (250, 4, 2)
    for row in (same, grown):
        oracle = pld.PLDAccountant().compose(GaussianDpEvent(2.0), row.participations)
        assert row.delta == pytest.approx(delta)
        assert row.epsilon == pytest.approx(oracle.get_epsilon(delta), rel=2e-3)
    assert same.multiplier_here == pytest.approx(2.0)
    assert grown.multiplier_here == pytest.approx(2.0 * 10 / 250)  # the server's noise is shared by 25 times as many


def test_noise_of_each_client_falls_with_the_square_root_only(tmp_path):
    folder = build_run(tmp_path / "run", "local", **{"aggregation.aggregator": "secagg"})
    *_, grown = project_run(read_run(folder), [1000])
    assert grown.multiplier_here == pytest.approx(2.0 * (10 / 250) ** 0.5)


def test_noise_of_a_secure_sum_is_that_of_as_large_a_share_of_survivors(tmp_path):
    folder = build_run(tmp_path / "run", "distributed", **{"aggregation.aggregator": "secagg"})
    *_, grown = project_run(read_run(folder), [1000])
    assert grown.multiplier_here == pytest.approx(2.0 * 10 / 250)


def test_bands_and_buffers_are_chosen_for_the_turns_that_more_people_take(tmp_path):
    _, same, _ = project_run(read_run(build_run(tmp_path / "run", "matrix")), [1000])
    assert same.multiplier_here < 1.9  # more bands than the four of people who come back after four rounds
    changes = {"privacy.mechanism": "blt", "privacy.noise_multiplier": 2.0, "privacy.epsilon": 0.0}
    config = resolve_privacy(read_config(preset="private", overrides={**changes, "rounds.count": 20}), 711)
    privacy = config.privacy
    head = LedgerHead("blt", 2.0, 2.0, 711, privacy.delta, 0.0, privacy.separation, 1, "-", privacy.buffers)
    own, same, _ = project(config, head, [7110])
    buffers = choose_buffers(20, 7110 // config.rounds.cohort_size)
    variances = prefix_variances(lambda draw: buffered_noise(draw, buffers), 20)
    assert same.running_noise == pytest.approx(2.0 * np.sqrt(variances.mean()) / config.rounds.cohort_size)
    assert same.running_noise < own.running_noise


def test_the_command_prints_them(tmp_path):
    build_run(tmp_path / "run")
    command = ["privacy", "--run", str(tmp_path / "run"), "--population", "100000", "--population", "1000"]
    printed = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout.splitlines()[-1])
    assert [row["people"] for row in printed["populations"]] == [40, 1000, 1000, 100_000, 100_000]
    text = CliRunner().invoke(cli, command).output
    assert "25,000" in text  # of 100,000 people, cohorts as large a share as here
    assert "the accuracy has not been measured" in " ".join(text.split())


def test_what_cannot_be_projected_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="this run has none"):
        project_run(read_run(build_run(tmp_path / "open", "none")), [1000])
    with pytest.raises(ConfigError, match="--population 9: a cohort of the run has 10 people"):
        project_run(read_run(build_run(tmp_path / "run")), [9])
