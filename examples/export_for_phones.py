"""Trains a tiny model and writes the bundle that an app ships."""

import sys
import tempfile

from train_and_predict import texts, tiny

from orchestrator import api

if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/run"
    run = api.train(folder, texts, preset="smoke", settings=tiny)
    figures = api.export(run, f"{folder}-bundle")
    print(f"trains as TFF does: at most {figures.parity_max_abs_diff:.1e} apart after the same batches")
    for name, file in figures.files.items():
        print(f"{file.bytes:9,} bytes  {name}")
