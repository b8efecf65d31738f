"""Phones in the report: what a file says is shown as its sender's, and a file that is wrong is named with its field."""

from __future__ import annotations

import json
import os
import re

import pytest
from reported_run import NUM_WEIGHTS, add_rounds, begin_run

from edge.errors import DeviceDataError
from edge.on_device.phone_figures import MAX_BYTES
from orchestrator.errors import RunFolderError
from orchestrator.report.report import write_report
from orchestrator.run.saved import read_run


def times(p50, **more):
    return {"p50": p50, "p90": 2 * p50, "p99": 3 * p50, "n": 30, **more}


def saved(**changes):
    """What edge/clients/web/src/view_speed.ts saves."""
    device = {
        "user_agent": "Mozilla/5.0 (Linux; Android 14)", "model": "Pixel <8>\u202e", "platform": "Android",
        "architecture": "", "processors": 8, "memory_gib": 8,
    }  # fmt: skip
    return {
        "format": "fedkeys web benchmark 1",
        "runtime": "litertjs 2.5.3, 1 thread",
        "manifest_sha256": "a" * 64,
        "weights": NUM_WEIGHTS,
        "device": device,
        "train_step_ms": [times(1234.5, sentences=1, rows=16), times(1300, sentences=16, rows=16)],
        "key_stroke_ms": [times(2.345, model="infer.tflite"), times(7.5, model="train.tflite")],
        "load_ms": {"library": 100.5, "infer": 20, "train": 30},
        **changes,
    }


@pytest.fixture
def folder(tmp_path):
    folder = begin_run(tmp_path / "run")
    add_rounds(folder)
    (folder.path / "phones").mkdir()
    return folder


def put(folder, content, name="pixel.json"):
    (folder.path / "phones" / name).write_text(content if isinstance(content, str) else json.dumps(content))


def page_of(folder):
    page = write_report(read_run(folder)).read_text(encoding="utf-8")
    return re.sub(r'<td data-column="[^"]*">', "<td>", page)


def test_a_phone_s_figures_stand_beside_the_estimates(folder):
    put(folder, saved())
    put(folder, saved(weights=7, device={**saved()["device"], "model": "", "architecture": "x86"}), "desk.json")
    page = page_of(folder)
    row = "<td>1,234 ms</td><td>1,300 ms</td><td>2.35 ms</td><td>150 ms</td></tr>"
    assert f"<tr><td>Pixel &lt;8&gt;\\u202e</td><td>1,000</td>{row}" in page
    assert f"<tr><td>Android x86 (desk)</td><td>7</td>{row}" in page
    assert "Measured, by whoever sent it: 2 files" in page
    assert "Of another model than this run&#39;s: 1" in page
    assert "Mozilla" not in page
    assert len(re.findall(r"<tr><td>(?:low|mid|high)</td><td>[\d,]+ to [\d,]+ ms</td><td>", page)) == 3


def test_a_report_without_files_of_phones_says_nothing_of_them(folder):
    assert "by whoever sent it" not in page_of(folder)


WRONG = {
    "text": ("words", "malformed"),
    "another format": (saved(format="fedkeys web benchmark 2"), r"\$\.format"),
    "a time that is a text": (saved(train_step_ms=[times("1", sentences=1, rows=16)]), r"\$\.train_step_ms\[0\]\.p50"),
    "a time without end": (saved(key_stroke_ms=[times(1e308, model="m")]), r"\$\.key_stroke_ms\[0\]\.p50"),
    "a negative time": (saved(load_ms={"library": 1, "infer": -1, "train": 1}), r"\$\.load_ms\.infer"),
    "no device": ({k: v for k, v in saved().items() if k != "device"}, "required field `device`"),
    "a long name": (saved(runtime="x" * 101), r"\$\.runtime"),
    "too many steps": (saved(train_step_ms=[times(1, sentences=1, rows=16)] * 17), r"\$\.train_step_ms"),
    "deep": ('{"more": ' + "[" * 50_000, "nested too deeply"),
    "too large": (" " * (MAX_BYTES + 1), f"{MAX_BYTES} are allowed"),
}


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_wrong_is_one_line_with_its_name_and_field(folder, content, said):
    put(folder, content)
    with pytest.raises(DeviceDataError, match=rf"phones/pixel\.json.*{said}") as error:
        page_of(folder)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("save it on the phone again, or remove it")


def test_what_is_no_file_is_refused_without_waiting(folder):
    os.mkfifo(folder.path / "phones" / "pipe.json")
    with pytest.raises(DeviceDataError, match=r"pipe\.json is not a regular file"):
        page_of(folder)


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere.json").write_text(json.dumps(saved()))
    (folder.path / "phones" / "link.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(DeviceDataError, match=r"link\.json is a link, and links are not followed"):
        page_of(folder)


def test_the_largest_figures_and_a_file_s_name_are_shown_as_text(folder):
    largest = times(1e8, sentences=2**31, rows=1, p90=1e8, p99=1e8)
    device = {**saved()["device"], "model": ""}
    put(folder, saved(train_step_ms=[largest], device=device), "<img src=x onerror=1>.json")
    page = page_of(folder)
    assert "<td>Android (&lt;img src=x onerror=1&gt;)</td>" in page
    assert "<td>100,000,000 ms</td>" in page


def test_more_files_than_a_page_shows_are_refused(folder):
    for number in range(101):
        put(folder, "", f"{number}.json")
    with pytest.raises(RunFolderError, match="holds 101 files, 100 are shown"):
        page_of(folder)
