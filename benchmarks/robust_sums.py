"""What aggregation.groups costs in accuracy, and what one lying client does to a training with and without it.

    python benchmarks/robust_sums.py [--json] [--rounds 60] [--cohort 30] [--groups 5]

Each row is a training of preset `smoke` on the built-in text, to the same seed, with plain sums (all sums give the same
total, to the bit). The liar is in every round in one of the cohort's places. It sends its update turned round, scaled
to the clip norm and with the most weight that a client may have: every check of a sum passes. Recall is that of the dev
people after the last round.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click
import msgspec
import numpy as np

from models.corpus import ClientId
from orchestrator.aggregator import PlainSum, Vector
from orchestrator.encoding import Encoder

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class WithLiar:
    """A plain sum in which the client whose name is first in the alphabet lies in each sum that it is in."""

    name = "plain"

    def __init__(self, encoder: Encoder, cohort_size: int):
        self._encoder, self._cohort_size = encoder, cohort_size
        self._seen: list[ClientId] = []

    def sum(self, vectors, cohort, drops):
        """See orchestrator.aggregator.Aggregator. The first vector of each round is the liar's."""
        return PlainSum().sum(self._with_lie(vectors), cohort, drops)

    def _with_lie(self, vectors):
        for client_id, vector in vectors:
            if len(self._seen) % self._cohort_size == 0:
                vector = self._lie(vector)
            self._seen.append(client_id)
            yield client_id, vector

    def _lie(self, vector: Vector) -> Vector:
        encoder = self._encoder
        honest = vector[: encoder.dim].view(np.int32).astype(np.float64)
        longest = encoder.clip_norm / encoder.step * 0.999  # room for rounding
        lie = np.rint(-honest * (longest / np.linalg.norm(honest))).astype(np.int32).view(np.uint32)
        zeros = tuple(np.zeros(shape, np.float32) for shape in encoder.shapes)
        most = encoder.encode(zeros, encoder.max_weight, np.random.default_rng(0))
        most[: encoder.dim] = lie
        return most


def top1(folder: Path, settings: dict, with_liar: bool) -> float:
    """Recall of the dev people after a training, in percent."""
    from orchestrator import api
    from orchestrator.rounds.build import build_encoder, model_size
    from orchestrator.run.training import Parts
    from orchestrator.settings.files import read_config

    config = read_config(preset="smoke", overrides=settings)
    encoder = build_encoder(config, model_size(config.model, config.data.vocabulary_size))
    liar = WithLiar(encoder, config.rounds.cohort_size) if with_liar else None
    run = api.train(folder, preset="smoke", settings=settings, parts=Parts(aggregator=liar))
    return 100.0 * float(run.rounds[-1].metrics["dev_top1"])


@click.command()
@click.option("--rounds", default=60, show_default=True)
@click.option("--cohort", default=30, show_default=True)
@click.option("--groups", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(rounds: int, cohort: int, groups: int, as_json: bool) -> None:
    """Prints a row for each way to combine."""
    common = {"rounds.count": rounds, "rounds.cohort_size": cohort, "aggregation.aggregator": "plain"}
    ways = {
        "one sum, its mean": {},
        f"{groups} sums, median": {"aggregation.groups": groups},
        f"{groups} sums, trimmed mean": {"aggregation.groups": groups, "aggregation.robust": "trimmed"},
    }
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for way, settings in ways.items():
            folders = [Path(temporary) / f"{len(rows)}-{liar}" for liar in (False, True)]
            honest, lied = (
                top1(folder, {**common, **settings}, with_liar) for folder, with_liar in zip(folders, (False, True))
            )
            rows.append({"way": way, "honest_top1": honest, "one_liar_top1": lied})
            if not as_json:
                click.echo(f"{way:24} all honest {honest:5.2f} %   one liar of {cohort} {lied:5.2f} %")
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())


if __name__ == "__main__":
    main()
