"""Runs that are written by hand, for the page that reports on them."""

from __future__ import annotations

import msgspec

from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.aggregator import CostLedger, StageCost
from orchestrator.rounds.types import RoundReport
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import SCHEMA, RunIdentity, digest_of_what_matters
from orchestrator.settings.files import read_config

NUM_WEIGHTS = 1_000
NASTY = '<script>alert("x")</script> & co'


def begin_run(path, name="corpus"):
    """A folder with a run that has no round yet."""
    config = read_config(overrides={"rounds.count": 4, "evaluation.every": 2})
    vocabulary = Vocabulary(SPECIAL_WORDS + ("see", "you"))
    folder = RunFolder(path)
    versions = {"python": "3.11.7", "tensorflow-federated": "0.87.0"}
    identity = RunIdentity(
        SCHEMA, digest_of_what_matters(config), name, "1" * 64, vocabulary.digest, NUM_WEIGHTS, versions
    )
    folder.create(config, vocabulary, identity)
    return folder


def report_of(round_num, survivors=("ann", "bob"), **changes):
    """A round of ann and bob, each of whom sends 4,000,000 bytes."""
    fields = {
        "round_num": round_num,
        "outcome": "completed",
        "selected": ("ann", "bob"),
        "survivors": survivors,
        "metrics": {"train_loss": 5.0 / round_num, "num_tokens": 100, "client_batches": 7, "clipped_clients": 1},
        "stage_s": {"clients": 1.5, "server_update": 0.25},
        "cost": CostLedger(per_client={"upload": StageCost(bytes_up=4e6)}),
        "weights_sha256": f"{round_num}" * 64,
    }
    return RoundReport(**{**fields, **changes})


def add_rounds(folder):
    """Four rounds of 2 s; the third abandoned; the second and the fourth evaluated."""
    folder.append_round(report_of(1), wall_s=2.0)
    dev = {"dev_top1": 0.1234, "dev_top3": 0.2345, "dev_loss": 5.4321}
    folder.append_round(report_of(2, metrics={**report_of(2).metrics, **dev}), wall_s=2.0)
    folder.append_round(
        report_of(3, survivors=(), outcome="abandoned", reason=NASTY, cost=CostLedger(), metrics={"train_loss": 0.0}),
        wall_s=2.0,
    )
    dev = {"dev_top1": 0.1357, "dev_top3": 0.2468, "dev_loss": 5.1111}
    folder.append_round(report_of(4, metrics={**report_of(4).metrics, **dev}), wall_s=2.0)


def score(top1, **more):
    return {
        "top1": top1,
        "top3": top1 + 0.1,
        "loss_nats_per_token": 10 * top1,
        "top1_interval": [top1 - 0.01, top1 + 0.01],
        "top1_per_client_mean": top1 + 0.001,
        "top1_worst_tenth_mean": None,
        "min_positions": 50,
        "clients_averaged": 20,
        "clients": 20,
        "positions": 4321,
        "oov": 160,
        "oov_rate": 0.0357,
        "top1_of_all_words": top1 * 0.9643,
        **more,
    }


def evaluation(**changes):
    """What `fedkeys evaluate` writes."""
    gain = {"top1_minus_trigram": -0.0123, "top1_minus_trigram_interval": [-0.02, -0.005]}
    return {
        "model": score(0.1817, **gain),
        "unigram": score(0.0441),
        "bigram": score(0.1512),
        "trigram": score(0.194),
        "mixed": score(0.2071, model_weight=0.5, top1_minus_trigram=0.0131, top1_minus_trigram_interval=None),
        "positions": 4321,
        "clients": 20,
        "oov_rate": 0.0357,
        "round_num": 4,
        "per_person_top1": {"model": [0.0123, *[0.19] * 10, 0.3877, *[0.11] * 8], "trigram": [0.2] * 20},
        "examples": [{"text": "<b>see", "predictions": [{"word": "you&me", "probability": 0.42}]}],
        **changes,
    }


def write_evaluation(folder, **changes):
    (folder.path / "evaluation.json").write_bytes(msgspec.json.encode(evaluation(**changes)))
