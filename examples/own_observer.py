"""An observer of one's own is told of each round as it is done."""

import sys
import tempfile

from train_and_predict import texts, tiny

from orchestrator import api


class Printing(api.Silent):
    """Prints a line for every tenth round."""

    def round_done(self, report, dev):
        if report.round_num % 10 == 0:
            print(f"round {report.round_num}: {len(report.survivors)} clients, {report.outcome}")


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/run"
    api.train(folder, texts, preset="smoke", settings=tiny, observer=Printing())
