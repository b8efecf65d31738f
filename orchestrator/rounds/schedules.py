"""Learning rates over the rounds, as a pure function of the round number."""

from __future__ import annotations

from orchestrator.settings.kinds import SCHEDULES, kind_of


def learning_rate_at(
    round_num: int,
    num_rounds: int,
    learning_rate: float,
    schedule: str = "constant",
    decay_start: float = 0.0,
    decay_floor: float = 0.0,
    warmup_rounds: int = 0,
) -> float:
    """Returns the learning rate of one round.

    It first climbs in equal steps: round r of the warm-up has r / (warmup_rounds + 1) of the rate. It holds
    until `decay_start` of the rounds are done, then falls, on a line or on half a cosine, and comes to
    `decay_floor` of the rate in the last round.

    Args:
        round_num: 1..num_rounds.
        num_rounds: how many rounds the whole run has, also when it is resumed.
        learning_rate: the full rate.
        schedule: a name in SCHEDULES: "constant" (no fall), "linear" or "cosine".
        decay_start: share of the rounds before the fall, in [0, 1].
        decay_floor: share of the rate that is left at the end, in [0, 1].
        warmup_rounds: rounds before the full rate.

    Raises:
        ValueError: the round is outside the run.
        ConfigError: nobody knows the schedule.

    >>> [learning_rate_at(r, 8, 0.5, "linear", decay_start=0.5, decay_floor=0.5) for r in (1, 4, 6, 8)]
    [0.5, 0.5, 0.375, 0.25]
    """
    if not 1 <= round_num <= num_rounds:
        raise ValueError(f"round_num must be in 1..num_rounds, got round_num={round_num}, num_rounds={num_rounds}")
    warmth = min(1.0, round_num / (warmup_rounds + 1))
    kind = kind_of(SCHEDULES, "schedule", schedule)
    if not kind.falls:
        return learning_rate * warmth
    first = decay_start * num_rounds
    fallen = max(0.0, (round_num - first) / (num_rounds - first)) if first < num_rounds else 0.0
    return learning_rate * warmth * (decay_floor + (1.0 - decay_floor) * kind.left(fallen))
