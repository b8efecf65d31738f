"""When the demo plants no phrases, and what it says then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.cli.demo_phrases import remembered_output
from orchestrator.run.folder import RunFolder
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig

OLD_RUN = Path(__file__).parents[2] / "data" / "run_of_0_1" / "run"


@dataclass
class Private:
    """What is read of a run that adds noise."""

    config: RunConfig


def no_workers():
    pytest.fail("workers were started for nothing")


def test_no_copy_of_a_private_run_is_trained(tmp_path, capsys):
    assert remembered_output(Private(read_config(preset="private")), tmp_path / "copy", no_workers) is None
    assert "a copy would be another release about the same people" in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


def test_a_run_whose_text_is_gone_is_told_of_and_the_demo_goes_on(tmp_path, capsys):
    assert remembered_output(read_run(RunFolder(OLD_RUN)), tmp_path / "copy", no_workers) is None
    assert "if it was moved" in capsys.readouterr().err
