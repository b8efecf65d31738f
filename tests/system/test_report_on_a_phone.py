"""The report's tables of an audit at the width of a phone, in Chromium."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from orchestrator.audit.leakage_results import (
    FILE_NAME,
    Estimate,
    Exposed,
    Exposure,
    OneRun,
    SummedScores,
    WholeRun,
    read_audit,
)
from orchestrator.report.report import write_report
from orchestrator.run.folder import RunFolder
from orchestrator.run.results import write_figures
from orchestrator.run.saved import read_run
from tests.support.web_browser import find_browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

OLD_RUN = Path(__file__).parents[1] / "data" / "run_of_0_1" / "run"
SEEN = Exposed(8, 10.25, 12.0)
EXPOSURE = Exposure(12.0, {"1": SEEN, "4": SEEN, "16": SEEN}, SEEN, never_planted=SEEN, of_copy=True, copy_rounds=300)
SUMMED = SummedScores(1000, 200, 500, 500, 0.95, 4.125, 4.5)
WHOLE = WholeRun(
    200, 99, 120, Estimate(2.5, 9.1, (7.1, 11.1)), Estimate(1.5, 5.3, (4.0, None)), OneRun(200, 100, 96, 0.95, 2.25),
    (2.0, 3.0), (0.0, -1.0), SUMMED,
)  # fmt: skip
# Says in the page how wide the frame's page is, and which of the audit's table cells reach beyond the frame.
MEASURE = """
<iframe style="width:WIDTHpx;height:800px;border:0" srcdoc="PAGE"></iframe><p id="found"></p>
<script>onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const cells = [...page.querySelectorAll("#audit td")];
  const beyond = cells.filter((cell) => cell.getBoundingClientRect().right > WIDTH).map((cell) => cell.innerText);
  document.getElementById("found").textContent =
    `width ${page.documentElement.scrollWidth} cells ${cells.length} beyond ${beyond.length}: ${beyond.join()}`;
}</script>
"""


@pytest.mark.parametrize("width", [320, 390])
def test_the_tables_of_an_audit_fit_a_phone(tmp_path, width):
    browser = find_browser()
    if browser is None:
        pytest.skip("there is no Chromium")
    shutil.copytree(OLD_RUN, tmp_path / "run")
    audit = msgspec.structs.replace(
        read_audit(OLD_RUN), exposure=EXPOSURE, summed_scores=SUMMED, whole_run=WHOLE, whole_run_reason=""
    )
    write_figures(tmp_path / "run" / FILE_NAME, audit)
    report = write_report(read_run(RunFolder(tmp_path / "run"))).read_text(encoding="utf-8")
    page = tmp_path / "phone.html"
    page.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGE", html.escape(report)), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=100)
    found = re.search(r"width (\d+) cells (\d+) beyond (\d+): ([^<]*)", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    assert int(found[1]) <= width
    assert int(found[2]) == 4 * (11 + 5)  # eleven figures of epsilon, five sorts of phrases
    assert int(found[3]) == 0, found[4]
