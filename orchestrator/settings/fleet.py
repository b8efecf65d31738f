"""The settings of a simulated fleet: its phones, their behaviour, the server's policy; presets."""

from __future__ import annotations

from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from orchestrator.settings.kinds import FLEET_POLICIES, FleetPolicy, kind_of
from orchestrator.settings.types import (
    Count,
    CountOrNone,
    NotNegative,
    Positive,
    Share,
    ShareBelowOne,
    one_of,
    says,
)


class FleetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A simulated fleet: which phones are there, how fast they are, which drop out, and how the server responds."""

    policy: Annotated[
        Annotated[str, one_of(FLEET_POLICIES)],
        says(
            "off: everybody is there and nothing takes time. sync: rounds of a cohort. fedbuff: the server steps when "
            "enough updates have come, whatever version they started from."
        ),
    ] = "off"
    devices: Annotated[
        Count,
        says("Number of phones in a plan (`fedkeys fleet`). Training gives each training person one phone instead."),
    ] = 100_000
    hardware: Annotated[
        Literal["market", "2018", "low", "ideal"],
        says(
            "market: phones that were in use in 2020. 2018: those of them that came out by 2018. low: the slowest "
            "tier. ideal: no phone takes any time."
        ),
    ] = "market"
    trace: Annotated[
        str, says("A file of measured phones or of their behaviour (docs/fleet.md); if empty, both are drawn.")
    ] = ""
    time_zones: Annotated[
        str, Meta(min_length=1), says("Where people live, as 'UTC offset in hours: share of the people, ...'.")
    ] = "-5: 0.48, -6: 0.29, -7: 0.06, -8: 0.17"
    day_swing: Annotated[
        Annotated[float, Meta(ge=1)],
        says("Number of eligible phones in the peak hour, divided by that in the lowest hour."),
    ] = 4.0
    sessions_per_day: Annotated[
        NotNegative, says("How often a day a phone becomes eligible: idle, charging, unmetered; 0 = it always is.")
    ] = 1.5
    session_s: Annotated[Positive, says("Mean length of such a session, in seconds.")] = 5400.0
    session_spread: Annotated[
        NotNegative, says("Spread of the lengths: standard deviation of their logarithm; 0 = all equal.")
    ] = 1.0
    pickups_per_hour: Annotated[
        NotNegative, says("How often an eligible phone is picked up in the busiest hour; it then stops its work.")
    ] = 1.5
    failure_share: Annotated[
        ShareBelowOne, says("Share of the participations that end by an error of the network or the computation.")
    ] = 0.04
    min_ram_mib: Annotated[CountOrNone, says("Phones with less memory never take part.")] = 2048
    min_os_version: Annotated[NotNegative, says("Phones with an older Android never take part.")] = 0.0
    unmetered_only: Annotated[bool, says("Phones without Wi-Fi never take part.")] = True
    round_trip_s: Annotated[
        NotNegative, says("Seconds that a message and its answer take besides the transfer of their bytes.")
    ] = 0.15
    jitter: Annotated[NotNegative, says("How much a phone's times vary: standard deviation of their logarithm.")] = 0.25
    over_selection: Annotated[
        Annotated[float, Meta(ge=1)], says("Clients that a round selects, as a multiple of rounds.cohort_size.")
    ] = 1.3
    selection_timeout_s: Annotated[
        Positive, says("Seconds after which a selection ends, with the phones that came if they are enough.")
    ] = 600.0
    report_deadline_s: Annotated[
        Positive, says("Seconds after which a round ends, with the updates that have come.")
    ] = 600.0
    min_report_share: Annotated[
        Share,
        says(
            "Share of rounds.cohort_size that must come, both at selection and at the end, or the round is abandoned."
        ),
    ] = 0.7
    max_waiting: Annotated[
        CountOrNone, says("Number of phones that may wait for a round, as a multiple of a cohort; 0 = all that come.")
    ] = 2
    min_pace_s: Annotated[NotNegative, says("Pace steering: the fewest seconds for which a phone is sent away.")] = (
        300.0
    )
    max_pace_s: Annotated[NotNegative, says("Pace steering: the most seconds for which a phone is sent away.")] = (
        21_600.0
    )
    separation_s: Annotated[NotNegative, says("The fewest seconds between two participations of a phone.")] = 0.0
    max_participations: Annotated[CountOrNone, says("The most participations of a phone in a run; 0 = any number.")] = 0
    buffer_size: Annotated[Count, says("fedbuff: number of updates for a step of the server.")] = 10
    concurrency: Annotated[Count, says("fedbuff: number of phones that train at the same time.")] = 30
    staleness_exponent: Annotated[
        NotNegative, says("fedbuff: an update that is t steps old is scaled by 1 / (1 + t) to this power.")
    ] = 0.5
    max_staleness: Annotated[
        CountOrNone, says("fedbuff: an update that is more steps old than this is thrown away.")
    ] = 20

    @property
    def kind(self) -> FleetPolicy:
        """The row of the policy."""
        return kind_of(FLEET_POLICIES, "fleet.policy", self.policy)


# Presets set more than the fleet: what a phone has to do is the model's and the client's.
FLEET_PRESETS: dict[str, dict[str, Union[str, int, float, bool]]] = {
    # Bonawitz et al. 2019 and Hard et al. 2018: 1.4 million weights, 400 sentences, hundreds of clients a round.
    "gboard-2018": {
        "fleet.policy": "sync",
        "fleet.hardware": "2018",
        "model.vocabulary_size": 10_000,
        "model.embedding_size": 96,
        "model.num_cells": 670,
        "client.batch_size": 10,
        "client.max_sentences": 400,
        "rounds.cohort_size": 300,
        "aggregation.aggregator": "plain",
    },
    # Where phones are old, Wi-Fi is shared and chargers are in use by day.
    "low-end": {
        "fleet.policy": "sync",
        "fleet.hardware": "low",
        "fleet.time_zones": "5.5: 1",
        "fleet.sessions_per_day": 1.0,
        "fleet.session_s": 2700.0,
        "fleet.failure_share": 0.08,
    },
    # One population around the world: someone always sleeps.
    "cross-country": {
        "fleet.policy": "sync",
        "fleet.time_zones": "-8: 0.1, -5: 0.2, -3: 0.15, 1: 0.2, 3: 0.1, 5.5: 0.15, 8: 0.1",
        "fleet.day_swing": 1.3,
    },
    # Training under it equals training without a fleet, bit for bit.
    "ideal": {
        "fleet.policy": "sync",
        "fleet.hardware": "ideal",
        "fleet.time_zones": "0: 1",
        "fleet.day_swing": 1.0,
        "fleet.sessions_per_day": 0.0,
        "fleet.pickups_per_hour": 0.0,
        "fleet.failure_share": 0.0,
        "fleet.min_ram_mib": 0,
        "fleet.unmetered_only": False,
        "fleet.round_trip_s": 0.0,
        "fleet.jitter": 0.0,
        "fleet.over_selection": 1.0,
        "fleet.max_waiting": 0,
        "fleet.min_pace_s": 0.0,
        "fleet.max_pace_s": 0.0,
    },
}
