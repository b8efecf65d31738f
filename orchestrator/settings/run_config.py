"""The settings of a run as frozen types: meaning, range and default of each, and the rules that join two.

Wherever a RunConfig exists it obeys those rules: it checks them itself. orchestrator/settings/files.py reads and
writes it as TOML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Annotated

import msgspec
from msgspec import Meta

from orchestrator.errors import ConfigError
from orchestrator.settings.audit import MIN_CANARIES, AuditConfig
from orchestrator.settings.fleet import FleetConfig
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.sections import (
    AggregationConfig,
    ClientConfig,
    DataConfig,
    EvaluationConfig,
    FaultsConfig,
    ModelConfig,
    RoundsConfig,
    RuntimeConfig,
    ServerConfig,
)
from orchestrator.settings.types import (
    says,
)


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides a run. Raises ConfigError if two settings contradict each other."""

    seed: Annotated[
        int,
        Meta(ge=0, le=2**63 - 1),
        says("Seeds what the simulation draws: split by person, cohorts, first weights. Never a key or a mask."),
    ] = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    client: ClientConfig = ClientConfig()
    server: ServerConfig = ServerConfig()
    rounds: RoundsConfig = RoundsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    aggregation: AggregationConfig = AggregationConfig()
    faults: FaultsConfig = FaultsConfig()
    fleet: FleetConfig = FleetConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    audit: AuditConfig = AuditConfig()

    def __post_init__(self) -> None:
        check_rules(self)


def check_rules(config: RunConfig) -> None:
    """Returns nothing; checks every rule that joins two settings, and the form of runtime.workers.

    Raises:
        ConfigError: names the settings, their values and what to change.
    """
    data, server, num_rounds = config.data, config.server, config.rounds.count
    rules = [
        (
            config.model.vocabulary_size <= data.vocabulary_size,
            ("model.vocabulary_size", "data.vocabulary_size"),
            "the model can't have more words than the vocabulary; lower the first or raise the second",
        ),
        (
            config.aggregation.min_survivors <= config.rounds.cohort_size,
            ("aggregation.min_survivors", "rounds.cohort_size"),
            "no round could ever be summed; lower the first or raise the second",
        ),
        (
            config.aggregation.aggregator == "plain" or config.aggregation.min_survivors >= 2,
            ("aggregation.aggregator", "aggregation.min_survivors"),
            "the sum of one is that one's update; raise the second to 2 or more",
        ),
        (
            config.faults.before_shares + config.faults.before_upload + config.faults.before_unmask < 1.0,
            ("faults.before_shares", "faults.before_upload", "faults.before_unmask"),
            "nobody would be left; their sum must be below 1",
        ),
        (
            data.dev_share + data.test_share < 1.0,
            ("data.dev_share", "data.test_share"),
            "nobody is left to train; their sum must be below 1",
        ),
        (
            data.min_sentences <= data.max_sentences_train,
            ("data.min_sentences", "data.max_sentences_train"),
            "nobody could have enough sentences to train; lower the first or raise the second",
        ),
        (
            config.client.runtime == "tff" or config.client.dropout == config.client.proximal == 0.0,
            ("client.runtime", "client.dropout", "client.proximal"),
            "the exported model trains without dropout and FedProx; set both to 0",
        ),
        (
            config.client.length_buckets <= data.max_words,
            ("client.length_buckets", "data.max_words"),
            "there are no more lengths than that; lower the first",
        ),
        (
            server.warmup_rounds < num_rounds,
            ("server.warmup_rounds", "rounds.count"),
            "the full learning rate would never come; lower the first or raise the second",
        ),
        (
            server.schedule == "constant" or server.warmup_rounds <= server.decay_start * num_rounds,
            ("server.warmup_rounds", "server.decay_start", "rounds.count"),
            "the learning rate would fall before it is full; lower the first or raise the second",
        ),
        *audit_rules(config),
        *fleet_rules(config),
        *privacy_rules(config),
    ]
    for holds, names, advice in rules:
        if not holds:
            values = ", ".join(f"{name} = {attrgetter(name)(config)}" for name in names)
            raise ConfigError(f"{values}: {advice}")
    _check_workers(config.runtime.workers)


def _check_workers(spec: str) -> None:
    """Refuses a runtime.workers that is not 'auto', a number or host:port,...; before TFF is imported."""
    if spec == "auto" or re.fullmatch(r"[1-9]\d{0,3}", spec):
        return
    for address in spec.split(","):
        match = re.fullmatch(r"\s*(?:[\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})\s*", address)
        if not match or not 1 <= int(match[1]) <= 65535:
            raise ConfigError(
                f"runtime.workers = {spec!r}: {address.strip()!r} is not host:port; "
                "write 'auto', a number of workers, or host:port,host:port"
            )


def audit_rules(config: RunConfig) -> Iterator[tuple[bool, tuple[str, ...], str]]:
    """(holds, the settings it joins, what to change) for each rule."""
    yield (
        config.audit.phrases == 0 or config.audit.phrase_words <= config.data.max_words,
        ("audit.phrase_words", "data.max_words"),
        "the phrases would be cut; lower the first",
    )
    if not config.audit.canaries:
        return
    canaries = ("audit.canaries",)
    yield config.audit.canaries >= MIN_CANARIES, canaries, f"so few tell nothing; set 0, or {MIN_CANARIES} and more"
    yield (
        config.client.weighting == "equal",
        (*canaries, "client.weighting"),
        "a canary has no text to be weighed by; set the second to 'equal'",
    )
    yield (
        not config.model.start_from_word_counts,
        (*canaries, "model.start_from_word_counts"),
        "what the training adds to the model could not be told from the counts; set the second to false",
    )
    yield (
        config.fleet.policy == "off",
        (*canaries, "fleet.policy"),
        "a canary has no phone that could check in; set the second to 'off'",
    )


Rule = tuple[bool, tuple[str, ...], str]  # holds, settings that it joins, what to change


def num_selected(config: RunConfig) -> int:
    """How many clients a round selects: the goal with its over-selection, rounded up.

    Source: Bonawitz et al. 2019, section 9: 130 % of the target.
    """
    return math.ceil(config.rounds.cohort_size * config.fleet.over_selection - 1e-9)


def cohort_limit(config: RunConfig) -> int:
    """The most clients that one sum can begin with: what the aggregator must be able to protect."""
    if config.fleet.policy == "sync":
        return num_selected(config)
    return config.fleet.buffer_size if config.fleet.policy == "fedbuff" else config.rounds.cohort_size


def min_reports(config: RunConfig) -> int:
    """The fewest updates that a round may end with."""
    share = math.ceil(config.fleet.min_report_share * config.rounds.cohort_size - 1e-9)
    return max(config.aggregation.min_survivors, share, 1)


def fleet_rules(config: RunConfig) -> Iterator[Rule]:
    """What joins a setting of the fleet with another; see orchestrator.settings.run_config.check_rules."""
    fleet = config.fleet
    if fleet.policy == "off":
        return
    yield (
        fleet.min_pace_s <= fleet.max_pace_s,
        ("fleet.min_pace_s", "fleet.max_pace_s"),
        "a phone can't be sent away for both; lower the first or raise the second",
    )
    yield (
        config.faults.before_shares + config.faults.before_upload + config.faults.before_unmask == 0.0,
        ("fleet.policy", "faults.before_shares", "faults.before_upload", "faults.before_unmask"),
        "the fleet decides who drops out; leave the faults at 0",
    )
    yield (
        fleet.sessions_per_day > 0 or fleet.day_swing == 1.0,
        ("fleet.sessions_per_day", "fleet.day_swing"),
        "phones that are always there have no day; set the second to 1",
    )
    yield (
        config.privacy.mechanism == "none",
        ("fleet.policy", "privacy.mechanism"),
        "what a mechanism proves assumes cohorts that the server draws; a fleet's depend on who is awake; turn one off",
    )
    if fleet.policy != "fedbuff":
        return
    yield (
        config.aggregation.aggregator != "secagg",
        ("fleet.policy", "aggregation.aggregator"),
        "masks cancel only within a cohort that is known before anyone trains, and a buffer's members are known only "
        "when they have uploaded; take encrypted or plain, or the policy sync",
    )
    yield (
        fleet.concurrency >= fleet.buffer_size,
        ("fleet.concurrency", "fleet.buffer_size"),
        "the buffer would fill only from clients of earlier steps; raise the first or lower the second",
    )
    yield (
        config.aggregation.min_survivors <= fleet.buffer_size,
        ("aggregation.min_survivors", "fleet.buffer_size"),
        "no step could ever be summed; lower the first or raise the second",
    )
    yield (
        fleet.buffer_size <= config.rounds.cohort_size,
        ("fleet.buffer_size", "rounds.cohort_size"),
        "updates are encoded with room for a cohort; lower the first or raise the second",
    )


def privacy_rules(config: RunConfig) -> Iterator[Rule]:
    """What joins a setting of privacy with another; see orchestrator.settings.run_config.check_rules."""
    privacy = config.privacy
    mechanism = ("privacy.mechanism",)
    yield (
        not privacy.adaptive_clip or privacy.mechanism in ("none", "central"),
        ("privacy.adaptive_clip", "privacy.mechanism"),
        "noise that clients add, or that rounds share, is made for one clip norm; take central, or a fixed clip",
    )
    if privacy.mechanism == "none":
        yield (
            privacy.noise_multiplier == 0.0 and privacy.epsilon == 0.0,
            (*mechanism, "privacy.noise_multiplier", "privacy.epsilon"),
            "no mechanism adds noise or keeps a budget; name one, or set both to 0",
        )
        return
    yield (
        privacy.clip_norm > 0.0,
        (*mechanism, "privacy.clip_norm"),
        "noise without clipping hides nobody whose update is long; set the second to about the median update norm",
    )
    yield (
        privacy.noise_multiplier > 0.0 or privacy.epsilon > 0.0,
        ("privacy.noise_multiplier", "privacy.epsilon"),
        "neither noise nor a budget to derive it from; set one",
    )
    yield (
        config.client.weighting == "equal",
        (*mechanism, "client.weighting"),
        "weights that depend on example counts tell of them, and let one person count for more; set it to 'equal'",
    )
    yield (
        not config.model.start_from_word_counts,
        (*mechanism, "model.start_from_word_counts"),
        "the counts of all words would be in the model without any noise; set the second to false",
    )
    yield (
        privacy.mechanism != "distributed" or config.aggregation.aggregator != "plain",
        (*mechanism, "aggregation.aggregator"),
        "the server would see every update under a part of the noise only; take secagg, encrypted or central",
    )
