"""A run's settings as one frozen type, and the rules that join two of them.

Wherever a RunConfig exists it obeys the rules: it checks them itself. What each setting means stands with its section;
orchestrator/settings/files.py reads and writes all of them as TOML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Annotated

import msgspec
from msgspec import Meta

from models.own_network import is_own
from orchestrator.errors import ConfigError
from orchestrator.settings.audit import MIN_CANARIES, AuditConfig
from orchestrator.settings.fleet import FleetConfig
from orchestrator.settings.group_rules import group_rules
from orchestrator.settings.kinds import CLIENT_RUNTIMES, SCHEDULES, WEIGHTINGS, kind_of
from orchestrator.settings.model import ModelConfig
from orchestrator.settings.noise_shape import read_buffers
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.privacy_rules import privacy_rules
from orchestrator.settings.sections import (
    AggregationConfig,
    ClientConfig,
    DataConfig,
    EvaluationConfig,
    FaultsConfig,
    RoundsConfig,
    RuntimeConfig,
    ServerConfig,
)
from orchestrator.settings.types import Rule, says
from orchestrator.settings.workers import check_workers


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides a run. Raises ConfigError if two settings contradict each other."""

    seed: Annotated[
        int,
        Meta(ge=0, le=2**63 - 1),
        says("Seed of what the simulation draws: split by person, cohorts, first weights. Never of a key or a mask."),
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


def _sections() -> dict[str, type[msgspec.Struct]]:
    fields = msgspec.structs.fields(RunConfig)
    return {field.name: type(field.default) for field in fields if isinstance(field.default, msgspec.Struct)}


def _kinds() -> dict[str, Mapping[str, object]]:
    found: dict[str, Mapping[str, object]] = {}
    for section, struct in SECTIONS.items():
        for field in msgspec.structs.fields(struct):
            info = msgspec.inspect.type_info(field.type)
            if isinstance(info, msgspec.inspect.Metadata) and info.extra:
                found[f"{section}.{field.name}"] = info.extra["one_of"]
    return found


SECTIONS = _sections()
KINDS = _kinds()  # {setting that names a kind: the rows that it may name}


def is_known(setting: str, name: object) -> bool:
    """True if a setting that names a kind may have this value: a row's name, or a network of somebody's own."""
    return name in KINDS[setting] or (setting == "model.kind" and isinstance(name, str) and is_own(name))


def check_rules(config: RunConfig) -> None:
    """Checks that every kind is known, every rule that joins two settings, and the settings with a form of their own.

    Raises:
        ConfigError: names the settings, their values and what to change.
    """
    for setting, kinds in KINDS.items():
        if not is_known(setting, attrgetter(setting)(config)):
            kind_of(kinds, setting, attrgetter(setting)(config))
    parts = (data_rules, sum_rules, training_rules, audit_rules, fleet_rules)
    on_privacy = privacy_rules(config.privacy, config.client, config.model, config.aggregation)
    for holds, names, advice in chain(*(rules(config) for rules in parts), on_privacy):
        if not holds:
            values = ", ".join(f"{name} = {attrgetter(name)(config)}" for name in names)
            raise ConfigError(f"{values}: {advice}")
    check_workers(config.runtime.workers)
    read_buffers(config.privacy.buffers)


def data_rules(config: RunConfig) -> Iterator[Rule]:
    """Yields the rules on the text and the model's words; see check_rules."""
    data = config.data
    yield (
        config.model.vocabulary_size <= data.vocabulary_size,
        ("model.vocabulary_size", "data.vocabulary_size"),
        "the model can't have more words than the vocabulary; lower the first or raise the second",
    )
    yield (
        config.model.embedding_size % config.model.width_multiple == 0,
        ("model.kind", "model.embedding_size"),
        f"this kind takes an embedding whose size is a multiple of {config.model.width_multiple}",
    )
    yield (
        not (config.model.start and is_own(config.model.kind)),
        ("model.kind", "model.start"),
        "which weights of a network of your own stand for words is not known: leave model.start out",
    )
    yield (
        data.dev_share + data.test_share < 1.0,
        ("data.dev_share", "data.test_share"),
        "nobody is left to train; lower them until their sum is below 1",
    )
    yield (
        data.min_sentences <= data.max_sentences_train,
        ("data.min_sentences", "data.max_sentences_train"),
        "nobody could have enough sentences to train; lower the first or raise the second",
    )


def sum_rules(config: RunConfig) -> Iterator[Rule]:
    """Yields the rules on the sum and on who drops out of it; see check_rules."""
    aggregation, faults = config.aggregation, config.faults
    yield (
        aggregation.min_survivors <= config.rounds.cohort_size,
        ("aggregation.min_survivors", "rounds.cohort_size"),
        "no round could ever be summed; lower the first or raise the second",
    )
    yield (
        aggregation.min_survivors >= 2 or not aggregation.traits.hides_updates,
        ("aggregation.aggregator", "aggregation.min_survivors"),
        "the sum of one is that one's update; raise the second to 2 or more",
    )
    yield (
        faults.before_shares + faults.before_upload + faults.before_unmask < 1.0,
        ("faults.before_shares", "faults.before_upload", "faults.before_unmask"),
        "no client would be left; lower them until their sum is below 1",
    )
    yield from group_rules(aggregation, config.rounds, config.privacy, config.fleet, config.audit)


def training_rules(config: RunConfig) -> Iterator[Rule]:
    """Yields the rules on the clients' and the server's training; see check_rules."""
    client, server, num_rounds = config.client, config.server, config.rounds.count
    yield (
        client.dropout == client.proximal == 0.0 or not CLIENT_RUNTIMES[client.runtime].is_exported,
        ("client.runtime", "client.dropout", "client.proximal"),
        "the exported model trains without dropout and FedProx; set both to 0",
    )
    yield (
        client.dropout == 0.0 or not is_own(config.model.kind),
        ("model.kind", "client.dropout"),
        "what enters and leaves a network of your own is not known; set the second to 0",
    )
    yield (
        not config.model.frozen_names or not CLIENT_RUNTIMES[client.runtime].is_exported,
        ("client.runtime", "model.frozen"),
        "the exported model trains all of its weights; leave the second empty",
    )
    yield (
        client.length_buckets <= config.data.max_words,
        ("client.length_buckets", "data.max_words"),
        "there are no more lengths than that; lower the first",
    )
    yield (
        server.warmup_rounds < num_rounds,
        ("server.warmup_rounds", "rounds.count"),
        "the full learning rate would never come; lower the first or raise the second",
    )
    yield (
        server.warmup_rounds <= server.decay_start * num_rounds or not SCHEDULES[server.schedule].falls,
        ("server.warmup_rounds", "server.decay_start", "rounds.count"),
        "the learning rate would fall before it is full; lower the first or raise the second",
    )


def audit_rules(config: RunConfig) -> Iterator[Rule]:
    """Yields the rules on an audit's phrases and canary clients; see check_rules."""
    yield (
        config.audit.phrases == 0 or config.audit.phrase_words <= config.data.max_words,
        ("audit.phrase_words", "data.max_words"),
        "the phrases would be cut; lower the first",
    )
    if not config.audit.canaries:
        return
    canaries = ("audit.canaries",)
    yield (
        config.audit.canaries >= MIN_CANARIES,
        canaries,
        f"too few to measure anything; set 0 (off), or at least {MIN_CANARIES}",
    )
    yield (
        not WEIGHTINGS[config.client.weighting].depends_on_text,
        (*canaries, "client.weighting"),
        "a canary has no text to be weighed by; set the second to 'equal'",
    )
    yield (
        not config.model.counts_words,
        (*canaries, "model.start_from_word_counts"),
        "what the training adds to the model could not be told from the counts; set the second to false",
    )
    yield (
        not config.fleet.kind.has_fleet,
        (*canaries, "fleet.policy"),
        "a canary has no phone that could check in; set the second to 'off'",
    )


def fleet_rules(config: RunConfig) -> Iterator[Rule]:
    """Yields the rules on a simulated fleet; see check_rules."""
    fleet = config.fleet
    if not fleet.kind.has_fleet:
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
        not config.privacy.traits.adds_noise,
        ("fleet.policy", "privacy.mechanism"),
        "what a mechanism proves assumes cohorts that the server draws; a fleet's depend on who is awake; turn one off",
    )
    if fleet.kind.is_buffered:
        yield from _buffer_rules(config)


def _buffer_rules(config: RunConfig) -> Iterator[Rule]:
    fleet = config.fleet
    yield (
        not config.aggregation.traits.needs_cohort_first,
        ("fleet.policy", "aggregation.aggregator"),
        "masks cancel only within a cohort that is known before anyone trains, and a buffer's members are known only "
        "when they have uploaded; take split, encrypted or plain, or the policy sync",
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
