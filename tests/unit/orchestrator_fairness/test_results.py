"""fairness.json read back, and its figures in words."""

from __future__ import annotations

import pytest

from orchestrator.errors import RunFolderError
from orchestrator.fairness.results import RecallByGroup, read_fairness, verdict


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "fairness.json").write_text("{")
    with pytest.raises(RunFolderError, match="is damaged"):
        read_fairness(tmp_path)


def test_a_verdict_counts_attributes():
    attribute = RecallByGroup(
        about="",
        groups={},
        hidden_groups=0,
        hidden_clients=0,
        gap=0.05,
        ratio=0.8,
        client_mean_gap=0.04,
        p_value=0.02,
        permutations=9999,
    )
    assert verdict(attribute, 1) == "Gap 5.00 points, ratio 0.80; by person 4.00 points, p = 0.0200: more than chance."
    assert "no more than chance would give (a difference takes p < 0.017)." in verdict(attribute, 3)
