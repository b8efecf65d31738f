"""A phone's browser takes part in secure rounds beside four Python clients: `fedkeys phone-demo`, with a person."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from contextlib import contextmanager

import portpicker
import pytest
from exported_run import build_run
from small_run import FEDKEYS
from web_browser import WEB, built_page_and_browser

from orchestrator.aggregator import CostLedger
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import RoundReport
from orchestrator.run.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
_ROUNDS = 2


@contextmanager
def demo(run, out):
    """A demo whose lobby is open, the addresses of its two pages, and the code that its phone enrols with."""
    address = f"localhost:{portpicker.pick_unused_port()}"
    command = [*FEDKEYS, "phone-demo", "--run", run, "--out", out, "--web", address, "--rounds", str(_ROUNDS), "--json"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        printed = ""
        for line in process.stderr:
            printed += line
            found = re.search(r"operator's page is at (\S+)[^#]*#code=([A-Z0-9-]+)", printed)
            if found:
                yield process, f"http://{address}/", *found.groups()
                return
        pytest.fail(printed)
    finally:
        process.terminate()
        process.wait(30)


def test_a_phone_takes_part_in_secure_rounds(tmp_path):
    _, browser = built_page_and_browser()
    text = tmp_path / "text.jsonl"
    lines = [{"client_id": f"p{i:02}", "text": f"see you at the house my friend word{i}"} for i in range(30)]
    text.write_text("".join(json.dumps(line) + "\n" for line in lines for _ in range(12)))
    run = build_run(tmp_path / "run", text)
    digest = weights_digest(run.load_checkpoint(7).model)
    run.append_round(RoundReport(7, "completed", ("p01",), ("p01",), {}, {}, CostLedger(), digest), wall_s=1.0)
    with demo(run.path, tmp_path / "phone") as (process, url, operator, code):
        command = ["node", WEB / "tests" / "join.mjs", url, browser, code, tmp_path, operator]
        done = subprocess.run(command, capture_output=True, text=True, timeout=330)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        figures, log = process.communicate(timeout=60)
        assert json.loads(figures)
        assert operator not in log  # it was said once
    assert seen["errors"] == []
    assert seen["outcome"]
    # What left: an answer a stage and round, 60 KB of masked numbers among them, and no word of hers.
    assert len(seen["left"]) == 6 * _ROUNDS
    frames = [base64.b64decode(frame) for frame in seen["sent"]]
    assert len(frames) == 1 + 6 * _ROUNDS
    sent = b"".join(frames) + json.dumps(seen["requests"]).encode()
    assert not re.search(rb"zebrafish|house|friend", sent)
    folder = RunFolder(tmp_path / "phone" / "run")
    rounds = folder.rounds()
    assert [report.outcome for report in rounds] == ["completed"] * _ROUNDS
    assert all("myphone" in report.survivors and len(report.survivors) == 5 for report in rounds)
    assert folder.config().aggregation.aggregator == "secagg"
    check_operator(seen["operator"], operator, rounds)


def check_operator(seen, url, rounds):
    """What the operator's page showed is what the rounds left, and it asked its own server only."""
    assert seen["errors"] == []
    assert {request.startswith(url) for request in seen["requests"]} == {True}
    assert seen["lobby"] == "The lobby is open: 0 of 1 code used."
    assert sorted(row.partition("connected")[0] for row in seen["clients"]) == sorted(rounds[0].selected)
    assert "nothing, since masks cover every number" in seen["upload"]
    assert len(re.findall(r"\b[0-9a-f]{2}\b", seen["upload"])) >= 48
    assert seen["end"] == f"All {_ROUNDS} rounds are done."
    assert [row[: len("2completed5 of 5")] for row in seen["rounds"]] == ["2completed5 of 5", "1completed5 of 5"]
    norm = f"{rounds[-1].metrics['update_norm']:#.3g}"  # with its zeros, as the page writes it
    assert seen["pictures"] == [
        "Clients by round; at last selected 5, in the sum 5",
        f"Length of the mean update by round; at last norm {norm}",
    ]
