"""The main job as the README has it: the preset of continuous integration on the built-in text, start to end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_smoke_preset_learns_and_the_demo_shows_it(tmp_path):
    run = tmp_path / "smoke"
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "demo", "--run", str(run), "--preset", "smoke"],
        capture_output=True,
        text=True,
        timeout=1100,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((run / "evaluation.json").read_text())
    assert figures["clients"] == 131
    # Seeded, so the same figure on every machine but for the last bits; the baselines are the text's own.
    assert figures["model"]["top1"] > 0.165
    assert figures["model"]["top1"] > figures["bigram"]["top1"]
    assert figures["trigram"]["top1"] == pytest.approx(0.1949, abs=0.0005)
    assert figures["five_gram"]["top1"] == pytest.approx(0.2044, abs=0.0005)
    assert figures["mixed"]["top1"] > figures[figures["best_ngram"]]["top1"]
    assert "federated model" in done.stdout
    assert "By activity: Gap" in done.stdout
    assert json.loads((run / "fairness.json").read_text())["aggregator"] == "secagg"
    assert "Whom does it serve well, and whom badly?" in (run / "report.html").read_text()
    assert (run / "report.html").stat().st_size > 10_000
    seen = json.loads((run / "transcript.json").read_text())
    assert (seen["masked"]["uniform_bytes"]["ok"], seen["plain"]["uniform_bytes"]["ok"]) == (True, False)
    assert "What the server saw of one client" in (run / "report.html").read_text()
    attack = json.loads((run / "attack.json").read_text())
    assert attack["views"]["raw"]["bias_sign"]["f1"] >= 0.9
    assert "What the server could read" in (run / "report.html").read_text()
    entries = [json.loads(line) for line in (run / "record.jsonl").read_text().splitlines()]
    assert [entry["round_num"] for entry in entries] == list(range(251))
    bundle = tmp_path / "smoke-bundle"
    assert (bundle / "MODEL_CARD.md").read_bytes() == (run / "MODEL_CARD.md").read_bytes()
    assert (bundle / "provenance.intoto.json").exists()
    assert (bundle / "train.tflite").exists()
    exposure = json.loads((run / "audit.json").read_text())["exposure"]
    assert (exposure["of_copy"], exposure["copy_rounds"]) == (True, 100)
    assert exposure["by_repeats"]["16"]["mean"] > exposure["never_planted"]["mean"] + 1
    copied = "trained for 100 rounds in place of 250"
    assert all(copied in (run / page).read_text() for page in ("report.html", "MODEL_CARD.md"))
    closing = done.stdout.splitlines()[-7:]
    labels = ["how well", "beside it", "a server reads", "in sums", "phrases typed", "the cost", "the pages"]
    assert [line[:15].strip() for line in closing] == labels
    assert f"{figures['model']['top1']:.1%}" in closing[0]
    assert closing[6].endswith(f"for phones: {bundle}")
    assert all(len(line) <= 80 for line in closing[:6])
    assert "They are of the built-in text, which is public." in (run / "report.html").read_text()
