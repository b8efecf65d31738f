"""The record: its chain, what a change of each field gets, kill and resume, commitments."""

from __future__ import annotations

import json

import msgspec
import pytest

from orchestrator.aggregator import CostLedger
from orchestrator.errors import RunFolderError
from orchestrator.rounds.types import RoundReport
from orchestrator.run import record
from orchestrator.run.lines import line_of
from orchestrator.run.record import Recorder, build_entry, check_against_reports, read_record
from orchestrator.run.sources import Provenance

PROVENANCE = Provenance("c" * 64, "d" * 64, "e" * 64, "f" * 64, "a" * 64, "b" * 64)
FIELDS = [f.name for f in msgspec.structs.fields(record.Entry)]


def report(round_num):
    return RoundReport(
        round_num, "completed", ("ann", "bob"), ("ann",), {}, {}, CostLedger(), f"{round_num:064x}", "", 0.5,
        aggregate_sha256=f"{round_num + 100:064x}",
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    recorder = Recorder(tmp_path, PROVENANCE, 0)
    recorder.begin("0" * 64)
    for round_num in (1, 2, 3):
        recorder.append(report(round_num), sync=False)
    return tmp_path


def lines(run):
    return [json.loads(line) for line in (run / record.RECORD_FILE).read_text().splitlines()]


def write(run, entries):
    (run / record.RECORD_FILE).write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def reports(*round_nums):
    return [line_of(report(n), wall_s=1.0) for n in round_nums]


def test_the_record_reads_back(run):
    entries = read_record(run)
    assert [e.round_num for e in entries] == [0, 1, 2, 3]
    assert [e.outcome for e in entries] == ["initial", "completed", "completed", "completed"]
    assert entries[0].previous_sha256 == record.FIRST_PREVIOUS
    assert all(b.previous_sha256 == a.entry_sha256 for a, b in zip(entries, entries[1:]))
    check_against_reports(run, entries, reports(1, 2, 3))


@pytest.mark.parametrize("number", [0, 2, 3])
@pytest.mark.parametrize("name", FIELDS)
def test_a_change_of_any_field_is_named(run, name, number):
    entries = lines(run)
    old = entries[number][name]
    if isinstance(old, dict):
        entries[number][name] = {**old, "epsilon": "00000000"}
    elif isinstance(old, str):
        entries[number][name] = "9" * 64 if old != "9" * 64 else "8" * 64
    else:
        entries[number][name] = 7 if old is None else old + 1
    write(run, entries)
    with pytest.raises(RunFolderError) as caught:
        read_record(run)
    assert f"entry {number}" in str(caught.value)
    # Whether a field or its check was changed nobody can tell: the field is named.
    assert ("epsilon" if name == "field_checks" else name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entry_made_anew_breaks_the_next(run):
    entries = lines(run)
    values = {name: entries[1][name] for name in FIELDS if name not in ("field_checks", "entry_sha256")}
    entries[1] = msgspec.to_builtins(build_entry({**values, "epsilon": 0.1}))
    write(run, entries)
    with pytest.raises(RunFolderError, match="entry 2: previous_sha256"):
        read_record(run)


def test_a_whole_chain_made_anew_is_not_what_the_reports_say(run):
    previous, forged = record.FIRST_PREVIOUS, []
    for entry in lines(run):
        values = {name: entry[name] for name in FIELDS if name not in ("field_checks", "entry_sha256")}
        forged.append(build_entry({**values, "previous_sha256": previous, "epsilon": 0.1}))
        previous = forged[-1].entry_sha256
    write(run, map(msgspec.to_builtins, forged))
    with pytest.raises(RunFolderError, match="entry 1: epsilon is not what rounds.jsonl says"):
        check_against_reports(run, read_record(run), reports(1, 2, 3))


def test_a_missing_or_doubled_entry_shows(run):
    entries = lines(run)
    for changed in (entries[:1] + entries[2:], entries[:2] + entries[1:], entries[1:]):
        write(run, changed)
        with pytest.raises(RunFolderError, match="entry [012]"):
            read_record(run)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9])
def test_a_record_cut_anywhere_is_refused(run, share):
    whole = (run / record.RECORD_FILE).read_bytes()
    (run / record.RECORD_FILE).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RunFolderError, match="cut off in entry"):
        read_record(run)


def test_a_record_cut_between_entries_is_refused(run):
    write(run, lines(run)[:-1])
    with pytest.raises(RunFolderError, match="ends with round 2, rounds.jsonl with 3"):
        check_against_reports(run, read_record(run), reports(1, 2, 3))


def test_a_resume_drops_what_lies_beyond_the_checkpoint(run):
    whole = (run / record.RECORD_FILE).read_bytes()
    with open(run / record.RECORD_FILE, "ab") as file:
        file.write(b'{"round_num": 4, "cut o')  # as a kill in mid-write leaves it
    recorder = Recorder(run, PROVENANCE, 1)
    for round_num in (2, 3):
        recorder.append(report(round_num), sync=True)
    assert (run / record.RECORD_FILE).read_bytes() == whole


def test_a_resume_beyond_the_record_is_refused(run):
    with pytest.raises(RunFolderError, match="ends before round 5"):
        Recorder(run, PROVENANCE, 5)


def test_the_record_alone_tells_neither_who_took_part_nor_the_sum(run):
    text = (run / record.RECORD_FILE).read_text()
    assert "ann" not in text
    assert report(1).aggregate_sha256 not in text
    first = read_record(run)[1]
    salt = record.read_salt(run)
    assert first.cohort_commitment == record.cohort_commitment(salt, 1, ("ann", "bob"), ("ann",))
    assert first.cohort_commitment != record.cohort_commitment(bytes(32), 1, ("ann", "bob"), ("ann",))
    assert (run / record.SALT_FILE).stat().st_mode & 0o077 == 0
