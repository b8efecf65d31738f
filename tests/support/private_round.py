"""Rounds under a mechanism of differential privacy, trained by clients that need no TFF."""

from __future__ import annotations

import contextlib

import numpy as np

from models.batches import build_batches
from orchestrator.aggregator import PlainSum
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.ledger import read_ledger
from orchestrator.privacy.mechanism import build_mechanism
from orchestrator.rounds.build import build_adaptive_clip, build_encoder
from orchestrator.rounds.cohort import everybody
from orchestrator.rounds.round import run_round
from orchestrator.rounds.types import RoundFunctions, ServerState
from orchestrator.settings.files import read_config

DIM = 6000
PEOPLE = tuple(f"p{i}" for i in range(20))
START = (np.zeros(DIM, np.float32),)


class Size:
    shapes = ((DIM,),)


class _NoClock:
    def stage(self, name):
        return contextlib.nullcontext()


def settings(mechanism="central", **changes):
    given = {
        "privacy.mechanism": mechanism,
        "privacy.clip_norm": 1.0,
        "privacy.noise_multiplier": 1.0,
        "client.weighting": "equal",
        "model.start_from_word_counts": False,
        "rounds.cohort_size": 5,
        "rounds.count": 40,
        "aggregation.min_survivors": 3,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return resolve_privacy(read_config(overrides=given), len(PEOPLE))


def train_clients(scale=0.05):
    """Everybody's update: `scale` in each coordinate of its own tenth, so its norm is scale * sqrt(DIM)."""

    def train(weights, learning_rate, seed, all_batches):
        for batches in all_batches:
            yield {
                "delta": (np.full(DIM, scale, np.float32),),
                "num_examples": batches.num_examples,
                "num_tokens": batches.num_tokens,
                "loss_sum": 1.0,
                "is_finite": True,
            }

    return train


def charged(directory):
    """The ledger's charges, without the lines that bind one to its sum."""
    return [charge for charge in read_ledger(directory)[1] if charge.participants]


def plain_step(state, weights, mean, rate):
    """The server's step: as an update says."""
    return state, tuple(w - m for w, m in zip(weights, mean))


def run(
    config, directory, rounds, state=None, train=None, drops=None, mechanism=None, encoder=None, aggregator=None,
    update_server=plain_step,
):  # fmt: skip
    """(state, reports) after `rounds` more rounds; a new process if no mechanism is given."""
    if config.privacy.mechanism != "none" and mechanism is None:
        mechanism = build_mechanism(config, directory, len(PEOPLE))
    functions = RoundFunctions(
        batches_of=lambda person, rng: build_batches([np.array([5])], batch_size=1, time=3, rng=rng),
        train_clients=train or train_clients(),
        weight_of=lambda update: 1,
        encoder=encoder or build_encoder(config, Size),
        aggregator=aggregator or PlainSum(),
        update_server=update_server,
        privacy=mechanism,
        adaptive_clip=build_adaptive_clip(config.privacy, config.aggregation),
    )
    plan, state, reports = everybody(config, PEOPLE), state or ServerState(0, START, 0), []
    for _ in range(rounds):
        cohort = plan(state.round_num + 1).cohort
        state, report = run_round(
            state,
            cohort,
            functions,
            seed=config.seed,
            client_learning_rate=1.0,
            server_learning_rate=1.0,
            stopwatch=_NoClock(),
            drops=dict.fromkeys(cohort.members[:2], drops) if drops else None,
        )
        reports.append(report)
    return state, reports
