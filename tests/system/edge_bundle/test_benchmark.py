"""What `fedkeys benchmark` prints of a bundle."""

from __future__ import annotations

import pytest
from exported_run import fedkeys

from edge.bundle.manifest import read_manifest
from edge.clients import c_client
from edge.export.tflite import INFER_FILE, TRAIN_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_benchmark_prints_its_fields(exported, tmp_path):
    plot = tmp_path / "plot.png"
    printed = fedkeys("benchmark", exported[0], "--batch", 1, "--batch", 3, "--runs", 5, "--plot", plot, "--json")
    assert {
        "train_step_ms",
        "key_stroke_ms",
        "load_ms",
        "peak_rss_mib",
        "bytes",
        "arithmetic_limit_ms",
        "machine",
    } <= set(printed)
    rows = {(row["runtime"], row["batch"], row["threads"]): row for row in printed["train_step_ms"]}
    for batch in (1, 3):
        for threads in (1, 2):
            for runtime in ("litert", "tensorflow", "tensorflow, own gradient"):
                row = rows[runtime, batch, threads]
                assert 0 < row["p50"] <= row["p90"] <= row["p99"]
                assert (row["runs"], row["warm_up"]) == (5, 3)
        assert printed["arithmetic_limit_ms"][str(batch)] > 0
    strokes = {(row["runtime"], row["model"], row["threads"]): row for row in printed["key_stroke_ms"]}
    expected = {("litert", model, threads) for model in (INFER_FILE, TRAIN_FILE) for threads in (1, 2)}
    if not c_client.why_not():
        expected.add(("c-client", INFER_FILE, 1))
        stroke = strokes["c-client", INFER_FILE, 1]
        assert 0 < stroke["p50"] <= stroke["p99"]
        assert stroke["runs"] == 50  # ten words in each of five processes, after the one that begins the sentence
        assert rows["c-client", 3, 1]["p50"] > 0
        assert 10 < printed["peak_rss_mib_by_client"]["c-client"] < 100  # of a small model
    assert set(strokes) == expected
    num_weights = read_manifest(exported[0])[0].model.size.num_weights
    assert printed["bytes"]["update_raw"] == 4 * num_weights
    assert printed["bytes"]["update_encoded"] == 4 * (num_weights + 1)
    assert printed["bytes"][INFER_FILE] == (exported[0] / INFER_FILE).stat().st_size
    assert 10 < printed["peak_rss_mib"] < 1000
    assert printed["load_ms"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")
