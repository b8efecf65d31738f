"""One federated round, from a cohort to new weights and a report.

This module does no I/O, reads no clock and uses no global randomness. What a round draws depends only on the seed and
the round's number, and the stopwatch that it is given takes its time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np

from models.corpus import ClientId
from models.weights import Weights
from orchestrator.aggregator import AggregateResult, Cohort, CostLedger, DropStage, Vector, total_digest
from orchestrator.encoding import Encoder, l2_norm, zeros_like
from orchestrator.errors import BelowThreshold, Diverged, ImplausibleSum
from orchestrator.rounds.adaptive_clip import next_clip
from orchestrator.rounds.groups import in_turn, split, sum_groups
from orchestrator.rounds.types import Canaries, ClientUpdate, RoundFunctions, RoundReport, ServerState, Stopwatch, Work
from orchestrator.seeds import Purpose, dropout_seed, simulation_rng


@dataclass
class _Tally:
    """The totals over the updates that have passed so far."""

    sums: dict[str, float] = field(default_factory=dict)

    def add(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            self.sums[name] = self.sums.get(name, 0.0) + amount


def run_round(
    state: ServerState,
    cohort: Cohort,
    functions: RoundFunctions,
    *,
    seed: int,
    client_learning_rate: float,
    server_learning_rate: float,
    stopwatch: Stopwatch,
    drops: Optional[Mapping[ClientId, DropStage]] = None,
) -> tuple[ServerState, RoundReport]:
    """Returns the state after a round, and its report.

    A client whose update holds a NaN or an infinity sends zeros, with weight 0 unless differential privacy divides by
    the cohort, so that nothing it sends tells of its text; the report's count of them is the simulator's own figure.
    A round is abandoned if too few survive, if all of them diverged, or if no honest clients can give its sum: the
    weights stay, the report says why.

    Source: McMahan et al. 2017, algorithm 1; the server's step: Reddi et al. 2021, algorithm 1.
    """
    drops = drops or {}
    tally = _Tally()
    if functions.privacy is not None:
        functions.privacy.before_round(cohort)
    encoder = replace(functions.encoder, clip_norm=state.clip_norm or functions.encoder.clip_norm)
    groups = split(cohort, functions.groups, seed)
    trained = _trained_updates(state.weights, in_turn(groups), drops, functions, seed, client_learning_rate, stopwatch)
    updates = _with_canaries(trained, cohort, drops, functions.canaries, encoder.clip_norm)
    vectors = _encoded(updates, cohort, encoder, functions, seed, tally, stopwatch)
    try:
        with stopwatch.stage("aggregate"):
            result, mean_of_groups = sum_groups(functions.aggregator, vectors, groups, drops, encoder, functions.groups)
        with stopwatch.stage("server_update"):
            mean_delta, share_under_clip, epsilon = _read(result, mean_of_groups, encoder, cohort, functions, stopwatch)
    except BelowThreshold as error:
        return _abandoned(state, cohort, tally, str(error))
    except (Diverged, ImplausibleSum) as error:
        return _abandoned(state, cohort, tally, f"round {cohort.round_num}: {error}")
    with stopwatch.stage("server_update"):
        step = functions.update_server(state.optimizer_state, state.weights, mean_delta, server_learning_rate)
        optimizer_state, weights = step  # which may decay weights that got no update, or flush the smallest to zero
        weights = tuple(state.weights[i] if i in encoder.frozen else weight for i, weight in enumerate(weights))
        average = _averaged(state.average, weights, cohort.round_num, functions)
    canary_products = _canary_products(functions, cohort, result, mean_delta, encoder.clip_norm, stopwatch)
    clip_norm, clip_metrics = next_clip(functions.adaptive_clip, encoder, share_under_clip)
    after = ServerState(cohort.round_num, weights, optimizer_state, average, clip_norm)
    report = RoundReport(
        round_num=cohort.round_num,
        outcome="completed",
        selected=cohort.members,
        survivors=result.survivors,
        metrics={**_metrics(tally), "update_norm": l2_norm(mean_delta), **clip_metrics},
        stage_s={},
        cost=result.cost,
        weights_sha256=weights_digest(after.model),
        epsilon=epsilon,
        aggregate_sha256=total_digest(result.total),
        canary_products=canary_products,
    )
    return after, report


def _read(
    result: AggregateResult,
    mean_of_groups: Optional[Weights],
    encoder: Encoder,
    cohort: Cohort,
    functions: RoundFunctions,
    stopwatch: Stopwatch,
) -> tuple[Weights, Optional[float], Optional[float]]:
    """Returns (mean delta, share of clients under the clip norm, epsilon) of a sum.

    The last two are None where nothing counts them.
    """
    if mean_of_groups is not None:
        return mean_of_groups, None, None
    if functions.privacy is not None:
        with stopwatch.stage("noise"):
            release = functions.privacy.release(result.total, encoder, cohort)
        return release.mean_delta, release.share_under_clip, release.epsilon
    num_summed = len(result.survivors)
    mean_delta, _ = encoder.decode(result.total, num_summed)
    share = encoder.share_under_clip(result.total, num_summed) if encoder.count_under_clip else None
    return mean_delta, share, None


def _canary_products(
    functions: RoundFunctions,
    cohort: Cohort,
    result: AggregateResult,
    mean_delta: Weights,
    clip_norm: float,
    stopwatch: Stopwatch,
) -> Optional[tuple[float, ...]]:
    """Returns the inner products of the canaries' directions with the sum, in clip norms; None without canaries."""
    if functions.canaries is None:
        return None
    # The mean divides by all members under differential privacy, else by the survivors.
    num_counted = len(cohort.members if functions.privacy is not None else result.survivors)
    with stopwatch.stage("canaries"):
        scale = num_counted / clip_norm
        return tuple(scale * product for product in functions.canaries.inner_products(mean_delta))


def _trained_updates(
    weights: Weights,
    cohort: Cohort,
    drops: Mapping[ClientId, DropStage],
    functions: RoundFunctions,
    seed: int,
    learning_rate: float,
    stopwatch: Stopwatch,
) -> Iterator[ClientUpdate]:
    """Yields the updates of the people who get to train, in cohort order."""
    canaries = functions.canaries.members if functions.canaries is not None else ()
    at_work = [member for member in _at_work(cohort, drops) if member not in canaries]
    num_batches = []

    def batches() -> Iterator[Work]:
        for member in at_work:
            with stopwatch.stage("batches"):
                own = functions.batches_of(member, simulation_rng(seed, Purpose.BATCHES, cohort.round_num, member))
            num_batches.append(own.num_batches)
            yield own

    results = iter(functions.train_clients(weights, learning_rate, dropout_seed(seed, cohort.round_num), batches()))
    for index, member in enumerate(at_work):
        with stopwatch.stage("clients"):
            result = next(results)
        yield ClientUpdate(
            client_id=member,
            delta=tuple(result["delta"]),
            num_examples=int(result["num_examples"]),
            num_tokens=int(result["num_tokens"]),
            num_batches=num_batches[index],
            loss_sum=float(result["loss_sum"]),
            is_finite=bool(result["is_finite"]),
        )


def _at_work(cohort: Cohort, drops: Mapping[ClientId, DropStage]) -> list[ClientId]:
    """Returns the members that get to compute an update, in cohort order."""
    return [m for m in cohort.members if drops.get(m, DropStage.NONE) is not DropStage.BEFORE_SHARES]


def _with_canaries(
    trained: Iterator[ClientUpdate],
    cohort: Cohort,
    drops: Mapping[ClientId, DropStage],
    canaries: Optional[Canaries],
    clip_norm: float,
) -> Iterator[ClientUpdate]:
    """Yields the trained updates, with those of the canary clients in their places."""
    if canaries is None:
        yield from trained
        return
    for member in _at_work(cohort, drops):
        if member in canaries.members:
            yield ClientUpdate(member, canaries.update(member, clip_norm), 0, 0, 0, 0.0, True)
        else:
            yield next(trained)


def _encoded(
    updates: Iterable[ClientUpdate],
    cohort: Cohort,
    encoder: Encoder,
    functions: RoundFunctions,
    seed: int,
    tally: _Tally,
    stopwatch: Stopwatch,
) -> Iterator[tuple[ClientId, Vector]]:
    """Yields the updates, one at a time, as vectors of integers."""
    for update in updates:
        with stopwatch.stage("encode"):
            rng = simulation_rng(seed, Purpose.ROUNDING, cohort.round_num, update.client_id)
            norm = l2_norm(update.delta) if update.is_finite else math.inf
            is_finite = math.isfinite(norm)
            # Who is missing from the sum would tell of somebody's text: zeros are sent instead.
            delta = update.delta if is_finite else zeros_like(update.delta)
            # Under differential privacy all weigh alike: nothing noises the weights, and the cohort's size divides.
            counts = is_finite or functions.privacy is not None
            weight = functions.weight_of(update) if counts else 0.0
            vector = encoder.encode(delta, weight, rng, norm if is_finite else 0.0)
        if functions.privacy is not None:
            with stopwatch.stage("noise"):
                vector = functions.privacy.client_noise(vector, encoder, cohort.round_num, update.client_id)
        if functions.canaries is not None and update.client_id in functions.canaries.members:
            yield update.client_id, vector
            continue
        if not is_finite:
            tally.add(non_finite_clients=1)
            yield update.client_id, vector
            continue
        tally.add(
            clients=1,
            client_norm_sum=norm,
            clipped_clients=norm > encoder.clip_norm,
            client_batches=update.num_batches,
            num_examples=update.num_examples,
            num_tokens=update.num_tokens,
            loss_sum=update.loss_sum,
        )
        yield update.client_id, vector


def _metrics(tally: _Tally) -> dict[str, float]:
    sums = tally.sums
    return {
        **({"train_loss": sums["loss_sum"] / max(1.0, sums["num_tokens"])} if sums.get("clients") else {}),
        "client_update_norm": sums.get("client_norm_sum", 0.0) / max(1.0, sums.get("clients", 0.0)),
        **{
            name: int(sums.get(name, 0))
            for name in (
                "num_examples",
                "num_tokens",
                "client_batches",
                "clipped_clients",
                "non_finite_clients",
            )
        },
    }


def abandon_round(state: ServerState, cohort: Cohort, reason: str) -> tuple[ServerState, RoundReport]:
    """Returns the state, unchanged but for the round's number, and the report of a round in which nobody trains."""
    return _abandoned(state, cohort, _Tally(), reason)


def _abandoned(state: ServerState, cohort: Cohort, tally: _Tally, reason: str) -> tuple[ServerState, RoundReport]:
    after = replace(state, round_num=cohort.round_num)
    return after, RoundReport(
        round_num=cohort.round_num,
        outcome="abandoned",
        selected=cohort.members,
        survivors=(),
        metrics=_metrics(tally),
        stage_s={},
        cost=CostLedger(),
        weights_sha256=weights_digest(after.model),
        reason=reason,
    )


def _averaged(
    average: Optional[Weights], weights: Weights, round_num: int, functions: RoundFunctions
) -> Optional[Weights]:
    """Returns the next exponential average. Its memory grows with the rounds, so that the start is soon forgotten."""
    if functions.average_decay == 0.0 or average is None:
        return weights if functions.average_decay else None
    keep = np.float32(min(functions.average_decay, round_num / (round_num + 10.0)))
    both = enumerate(zip(average, weights))  # an average of equal numbers can be off in the last bit
    return tuple(w if i in functions.encoder.frozen else keep * a + (np.float32(1) - keep) * w for i, (a, w) in both)


def weights_digest(weights: Weights) -> str:
    """Returns the SHA-256 (hex) of the weights as raw little-endian float32, in the model's order."""
    digest = hashlib.sha256()
    for tensor in weights:
        digest.update(np.ascontiguousarray(tensor, "<f4").data)
    return digest.hexdigest()
