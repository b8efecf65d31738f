"""The pictures of a run's privacy: a line for each mechanism and each run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.evaluation.privacy_results import MeasuredRun
from orchestrator.report.plots.privacy import draw_privacy, recall_by_epsilon, running_noise

PRIVATE = MeasuredRun("private", "tree", 1.5, 4.5, ((10, 2.0, 0.1), (20, 4.0, 0.15)))
PLAIN = MeasuredRun("plain", "none", 0.0, None, ((10, None, 0.2),))


@pytest.fixture
def result():
    costs = [SimpleNamespace(name=name, by_round=np.array([0.1, 0.2, 0.3])) for name in ("central", "tree")]
    return SimpleNamespace(costs=costs, mechanism="tree", target=8.0)


def test_the_runs_own_mechanism_is_strong(result):
    svg = running_noise(result)
    assert svg.count("stroke-width: 2.6") == 2  # its line, and its place in the legend
    assert svg.count("stroke-width: 1.2") == 2
    assert ">central<" in svg
    assert ">tree<" in svg


def test_accuracy_is_drawn_against_epsilon():
    assert "epsilon spent" in recall_by_epsilon([(2.0, 0.1), (4.0, 0.15)])


def test_both_pictures_are_a_png(result, tmp_path):
    draw_privacy(result, [PRIVATE, PLAIN, MeasuredRun("new", "local", 1.0, 0.0, ())], tmp_path / "privacy.png")
    assert (tmp_path / "privacy.png").read_bytes().startswith(b"\x89PNG")
