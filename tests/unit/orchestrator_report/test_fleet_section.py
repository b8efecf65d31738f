"""The report's section on a fleet: two rounds of twenty phones, counted by hand."""

from __future__ import annotations

import msgspec
import pytest

from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.aggregator import CostLedger
from orchestrator.errors import RunFolderError
from orchestrator.fleet.results import DEVICES_FILE, FleetOfRound, Phone
from orchestrator.report.fleet import fleet
from orchestrator.report.view import view_run
from orchestrator.rounds.types import RoundReport
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import SCHEMA, RunIdentity, digest_of_what_matters
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config

FIRST = FleetOfRound(
    opened_s=0.0,
    started_s=60.0,
    ended_s=600.0,
    parts_s={"download": 100.0, "train": 440.0},
    bytes_down=3e9,
    bytes_up=1e9,
    check_ins=5,
    eligible=4,
    selection_timeouts=1,
    outcomes={"completed": 2, "interrupted": 1},
    drop_outs={"interrupted": {"upload": 1}},
    members={"ann": "completed", "bob": "completed", "cyd": "interrupted"},
)
SECOND = msgspec.structs.replace(
    FIRST,
    opened_s=600.0,
    started_s=900.0,
    ended_s=7200.0,
    selection_timeouts=2,
    outcomes={"completed": 1},
    drop_outs={"interrupted": {}},
    members={"ann": "completed"},
)
PHONES = {
    "ann": Phone("high", "wifi", "UTC-5", 4096, 0.1, True),
    "bob": Phone("high", "wifi", "UTC-5", 4096, 0.1, True),
    **{f"high{i}": Phone("high", "wifi", "UTC-6", 4096, 0.1, True) for i in range(8)},
    "cyd": Phone("low", "wifi", "UTC-6", 1024, 0.9, True),
    **{f"low{i}": Phone("low", "lte", "UTC-6", 1024, 0.9, False) for i in range(9)},
}


@pytest.fixture
def folder(tmp_path):
    config = read_config(overrides={"fleet.policy": "sync"})
    vocabulary = Vocabulary(SPECIAL_WORDS + ("see", "you"))
    folder = RunFolder(tmp_path / "run")
    identity = RunIdentity(
        SCHEMA, digest_of_what_matters(config), "text", "1" * 64, vocabulary.digest, 10, {"python": "3.11.7"}
    )
    folder.create(config, vocabulary, identity)
    for round_num, seen in enumerate((FIRST, SECOND), 1):
        report = RoundReport(
            round_num=round_num,
            outcome="completed",
            selected=tuple(seen.members),
            survivors=(),
            metrics={"train_loss": 5.0, "dev_top1": 0.1, "dev_top3": 0.2, "dev_loss": 5.0},
            stage_s={},
            cost=CostLedger(),
            weights_sha256="0" * 64,
            fleet=msgspec.to_builtins(seen),
        )
        folder.append_round(report, wall_s=1.0)
    (folder.path / DEVICES_FILE).write_bytes(msgspec.json.encode(PHONES))
    return folder


def test_rounds_and_phones_are_counted(folder):
    section = fleet(view_run(read_run(folder)))
    text = section.paragraphs[0]
    assert "2 rounds in 2.0 virtual hours, policy `sync`" in text
    assert "The median round took 1 h 0 min" in text  # of 600 s and 6,600 s
    assert "moved 8.00 GB" in text
    assert "25.00% dropped out; 3 selections timed out" in text  # one of four
    assert len(section.figures) == 5
    drop_outs, speed, network, zone = section.tables
    assert drop_outs.rows == (("interrupted", "1"),)
    # Four were selected, of whom ann twice; three updates counted.
    assert speed.rows == (
        ("high", "10", "50.0%", "75.0%", "100.0%", "0.0%", "80.0%"),
        ("low", "10", "50.0%", "25.0%", "0.0%", "90.0%", "100.0%"),
    )
    # Nine phones with LTE and two in UTC-5 are too few, and would follow from the others' figures.
    assert [row[:2] for row in network.rows] == [("lte, wifi", "20")]
    assert [row[:2] for row in zone.rows] == [("UTC-5, UTC-6", "20")]


@pytest.mark.parametrize("content", [None, b"{", b'{"ann": {}}'])
def test_without_its_phones_it_is_refused_in_one_line(folder, content):
    path = folder.path / DEVICES_FILE
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RunFolderError, match="fleet_devices.json is missing or damaged"):
        fleet(view_run(read_run(folder)))
