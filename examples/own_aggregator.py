"""An aggregator of one's own: it counts what passes, and leaves the sum to another."""

import sys
import tempfile

from train_and_predict import texts, tiny

from orchestrator import api
from orchestrator.aggregator import PlainSum


class Counting:
    """A plain sum that counts the vectors that it was shown."""

    name = "counting"

    def __init__(self):
        self.vectors = 0

    def sum(self, vectors, cohort, drops):
        """See orchestrator.aggregator.Aggregator: vectors come one at a time, in the cohort's order."""
        return PlainSum().sum(self._counted(vectors), cohort, drops)

    def _counted(self, vectors):
        for client_id, vector in vectors:
            self.vectors += 1
            yield client_id, vector


if __name__ == "__main__":
    from orchestrator.run.training import Parts

    folder = sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/run"
    own = Counting()
    run = api.train(folder, texts, preset="smoke", settings=tiny, parts=Parts(aggregator=own))
    print(f"{own.vectors} vectors in {len(run.rounds)} rounds")
