"""transcript.json: the fields that others read, and the way back."""

from __future__ import annotations

import msgspec

from orchestrator.audit.transcript_results import (
    Correlation,
    TranscriptResult,
    Uniformity,
    UpdateNorm,
    Upload,
    read_transcript_file,
    write_transcript,
)

UNIFORM = Uniformity(n=4, chi_square=252.0, p_value=0.5, ok=True)
PLAIN = Upload(bytes=4, uniform_bytes=UNIFORM, byte_counts=(4,), picture="AAAA", first_words=(1,), loudest=("see",))
ENCRYPTED = Upload(
    bytes=4,
    uniform_bytes=UNIFORM,
    byte_counts=(4,),
    picture="BBBB",
    first_bytes="0a0b",
    correlation=Correlation(n=1, r=0.0, p_value=1.0, ok=True),
)
RESULT = TranscriptResult(
    round_num=2,
    client="ann",
    aggregator="secagg",
    mechanism="none",
    update_norm=UpdateNorm(0.5, None),
    false_alarm_rate=1e-6,
    plain=PLAIN,
    masked=msgspec.structs.replace(PLAIN, correlation=ENCRYPTED.correlation),
    encrypted=ENCRYPTED,
    typed=("see",),
    typed_share=0.5,
    split=msgspec.structs.replace(PLAIN, correlation=ENCRYPTED.correlation),
)


def test_an_upload_has_the_fields_of_its_kind_only():
    fields = msgspec.to_builtins(RESULT)
    common = {"bytes", "uniform_bytes", "byte_counts", "picture"}
    assert set(fields["plain"]) == common | {"first_words", "loudest"}
    assert set(fields["masked"]) == common | {"first_words", "loudest", "correlation"}
    assert set(fields["encrypted"]) == common | {"first_bytes", "correlation"}
    assert fields["update_norm"] == {"of the run": 0.5, "computed again": None}
    assert fields["plain"]["uniform_bytes"] == {"n": 4, "chi_square": 252.0, "p_value": 0.5, "ok": True}


def test_what_is_printed_has_no_pictures():
    fields = msgspec.to_builtins(RESULT.without_pictures())
    assert not any("picture" in fields[view] for view in ("plain", "masked", "encrypted", "split"))
    assert {**fields["plain"], "picture": "AAAA"} == msgspec.to_builtins(PLAIN)


def test_a_transcript_of_before_there_was_a_split_sum_is_read(tmp_path):
    before = msgspec.structs.replace(RESULT, split=None)
    fields = msgspec.to_builtins(before)
    del fields["split"]
    (tmp_path / "transcript.json").write_bytes(msgspec.json.encode(fields))
    assert read_transcript_file(tmp_path) == before
    assert list(before.uploads) == list(before.without_pictures().uploads) == ["plain", "secagg", "encrypted"]
    assert list(RESULT.uploads) == ["plain", "secagg", "encrypted", "split"]
    assert before.without_words().split is None


def test_what_is_written_is_read(tmp_path):
    assert read_transcript_file(tmp_path) is None
    write_transcript(tmp_path, RESULT)
    assert read_transcript_file(tmp_path) == RESULT
