"""What a run's privacy comes to, what each mechanism would cost in its place, and how well its noise adds up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.vocabulary import POOLED, PUBLIC
from orchestrator.privacy.accounting import Cost
from orchestrator.privacy.bands import Bands, bands_of, compare_bands
from orchestrator.privacy.calibration import default_delta, noise_of_budget, planned_squared, shape_of
from orchestrator.privacy.correlated import prefix_variances
from orchestrator.privacy.ledger import LEDGER_FILE, history_of, read_ledger
from orchestrator.privacy.mechanism import noise_sequence
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.rounds.cohort import largest_separation
from orchestrator.run.saved import Run
from orchestrator.run.spent import Guarantee, spent_in_all, spent_on_ngram, spent_on_start, spent_on_words
from orchestrator.run.start_origin import Start
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.run_config import RunConfig

_DELTAS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)
_EPSILON_WITHOUT = 8.0  # of the comparison, for a run that has no differential privacy
_MOST_ROUNDS = 4000  # for which the running sums' noise is computed exactly

NOT_COVERED = (
    "rounds.jsonl, TensorBoard's scalars and this folder are the operator's: their losses, norms and counts have no "
    "noise. Publish the model, not the folder.",
    "The dev people's figures are theirs, not the training people's; whoever chooses settings by them spends their "
    "privacy, not that of the ledger.",
    "Recalls of the pooled n-grams, scores of mixtures with them and an attack's success on training people are "
    "worked out from training text without noise: epsilon does not cover them. A model card leaves them out; the "
    "report and this folder's files hold them.",
    "A bundle holds the model, the words and a digest of the whole text; its certificate comes from made-up sentences "
    "and the dev people's.",
    "A word list of `fedkeys vocabulary` made from the same people spends an epsilon and a delta of its own: what the "
    "model and the list cost together is the sum of both.",
    "Every sum here is of this run. Other runs on the same people's text are charged on ledgers of their own, and come "
    "on top: of a run that this one began with, its model and word list are counted, and no n-gram that it released.",
    "Clients clip as they are told; who sends a longer update breaks only its own protection, and the sum.",
    "The Gaussian numbers come from floating point and are rounded to the encoder's grid; their tail ends at 8.6 "
    "standard deviations.",
)


@dataclass(frozen=True)
class MechanismCost:
    """One mechanism in a run's place: the same people, rounds, cohorts and clip.

    Attributes:
      name: of the mechanism.
      epsilon: of all rounds, at the run's noise multiplier; None if the run has none.
      noise_multiplier: what it takes for the run's epsilon.
      prefix_noise: with that, the noise of the running sum of mean updates, in clip norms a coordinate: root mean
        square over the rounds.
      by_round: that noise after each round [rounds].
    """

    name: str
    epsilon: Optional[float]
    noise_multiplier: float
    prefix_noise: float
    by_round: NDArray[np.float64]


@dataclass(frozen=True)
class RunPrivacy:
    """What a run's privacy comes to.

    Attributes:
      mechanism: "none" without differential privacy; then there is no epsilon and no zcdp.
      noise_multiplier, clip_norm, separation, population, delta: of the run.
      budget: its epsilon; 0 = none.
      rounds_charged: charges in the ledger.
      most_participations: of the person who took part most.
      zcdp: rho.
      epsilon: of the model, by delta.
      word_list: what the run's own word list has cost the same people; None if it did not find one.
      start: what the training of the run's start has cost the same people; None if it was not on their text.
      ngram: what the run's private n-gram has cost them; None if none was released.
      total: what all of it has cost together, see orchestrator.run.spent; None without differential privacy, or if the
        model alone has cost anything.
      assumptions: what these figures rest on.
      target: the epsilon at which the mechanisms are compared.
      costs: of each mechanism in the run's place.
      bands: of the run's matrix, or those that a matrix in its place would get.
      band_choices: these beside other numbers of bands.
    """

    mechanism: str
    noise_multiplier: float
    clip_norm: float
    separation: int
    population: int
    delta: float
    budget: float
    rounds_charged: int
    most_participations: int
    zcdp: Optional[float]
    epsilon: dict[float, Optional[float]]
    word_list: Optional[Guarantee]
    start: Optional[Guarantee]
    ngram: Optional[Guarantee]
    total: Optional[Guarantee]
    assumptions: tuple[str, ...]
    target: float
    costs: tuple[MechanismCost, ...]
    bands: int
    band_choices: tuple[Bands, ...]


def run_privacy(run: Run, num_people: Optional[int] = None) -> RunPrivacy:
    """Returns what the privacy of a run comes to, read from its ledger.

    Args:
      run: the run.
      num_people: who could take part, of a run without a ledger; None takes those who did.

    Raises:
      RunFolderError: the ledger is missing or damaged.
      PrivacyStop: the ledger holds an event that the accountant does not know.
    """
    config = run.config
    privacy = config.privacy
    if not privacy.traits.adds_noise and not (run.path / LEDGER_FILE).exists():
        took_part = {member for line in run.rounds for member in line.selected}
        people = num_people or max(len(took_part), config.rounds.cohort_size)
        return _without(run, people, spent_on_words(run.path))
    head, charges = read_ledger(run.path)
    history, word_list = history_of(head, charges), spent_on_words(run.path)
    cost = head.cost_of(history)
    planned = Cost(
        planned_squared(head.mechanism, config.rounds.count, head.separation, head.shape)
        / (2 * head.noise_multiplier**2),
        head.is_gaussian,
    )
    target = head.budget or planned.epsilon(head.delta)
    bands = head.bands if privacy.traits.has_bands else bands_of(config, head.separation)
    deltas = sorted({head.delta, *(d for d in _DELTAS if d < 1 / head.population)}, reverse=True)
    return RunPrivacy(
        mechanism=head.mechanism,
        noise_multiplier=head.noise_multiplier,
        clip_norm=head.clip_norm,
        separation=head.separation,
        population=head.population,
        delta=head.delta,
        budget=head.budget,
        rounds_charged=sum(bool(charge.participants) for charge in charges),
        most_participations=history.most_participations,
        zcdp=cost.zcdp,
        epsilon={delta: cost.epsilon(delta) for delta in deltas},
        word_list=word_list,
        start=spent_on_start(run),
        ngram=spent_on_ngram(run.path),
        total=spent_in_all(run),
        assumptions=(*_claims(run, word_list), _about_delta(head.delta, head.population), *NOT_COVERED),
        target=target,
        costs=_costs(config, head.separation, head.delta, target, head.noise_multiplier),
        bands=bands,
        band_choices=compare_bands(config, head.separation, bands),
    )


def _about_delta(delta: float, num_people: int) -> str:
    return (
        f"delta = {delta:.2g} is below 1 / people by a factor of {1 / (num_people * delta):.1f}: "
        "publishing one person's whole text at random would have delta = 1 / people."
    )


def _without(run: Run, num_people: int, word_list: Optional[Guarantee]) -> RunPrivacy:
    config = run.config
    delta, separation = default_delta(num_people), largest_separation(num_people, config.rounds.cohort_size)
    bands = bands_of(config, separation)
    return RunPrivacy(
        mechanism="none",
        noise_multiplier=0.0,
        clip_norm=config.aggregation.clip_norm,
        separation=separation,
        population=num_people,
        delta=delta,
        budget=0.0,
        rounds_charged=0,
        most_participations=0,
        zcdp=None,
        epsilon={delta: None},
        word_list=word_list,
        start=spent_on_start(run),
        ngram=None,
        total=None,
        assumptions=(
            "No noise was added: no epsilon holds. Secure aggregation hides who typed a word, not that it was typed.",
            run.words.statement,
            *([run.start.statement] if run.start else []),
        ),
        target=_EPSILON_WITHOUT,
        costs=_costs(config, separation, delta, _EPSILON_WITHOUT, None),
        bands=bands,
        band_choices=compare_bands(config, separation, bands),
    )


def _claims(run: Run, word_list: Optional[Guarantee]) -> list[str]:
    """Returns what the ledger's figures rest on, for the run's mechanism."""
    config = run.config
    privacy = config.privacy
    claims = [
        "User level: two runs are neighbours if one person's whole text is in one and nothing in its place in the "
        "other. Who is selected and who drops out must not depend on anybody's text, and is taken to be public.",
        "No amplification by sampling is claimed: cohorts are of a fixed size and their members known to the server. A "
        "person is charged for each round it was selected for.",
    ]
    claims.append(
        f"A person's participations lie at least {privacy.separation} rounds apart: people have turns, and the ledger "
        "refuses a cohort that breaks them."
    )
    if run.words.source == PUBLIC:
        claims.append(f"The word list costs no epsilon. {run.words.statement}")
    elif run.words.source == POOLED:
        claims.append(f"The vocabulary is taken to be public: epsilon does not cover it. {run.words.statement}")
    elif word_list is not None:
        claims.append("The ledger charges for the model; the word list comes on top, and the total is the sum of both.")
    else:
        claims.append(f"{run.words.statement} What `fedkeys vocabulary` spent on it is not covered and comes on top.")
    if spent_on_ngram(run.path) is not None:
        claims.append(
            "The private n-gram is a release of its own, with a budget and a ledger of its own; whoever has the model "
            "and the n-gram has both, and the total adds them up."
        )
    if run.start is not None:
        claims.append(_about_start(run.start, spent_on_start(run)))
    aggregation = config.aggregation
    claims.append(
        privacy.traits.trust.format(server_sees=aggregation.traits.server_sees, min_survivors=aggregation.min_survivors)
    )
    if config.audit.canaries:
        claims.append(f"{config.audit.canaries} of the people are an audit's canary clients.")
    if privacy.traits.from_clients:
        claims.append("In this simulation the clients' noise comes from the run's sealed seed; phones draw their own.")
    return claims


def _about_start(start: Start, of_the_same: Optional[Guarantee]) -> str:
    if of_the_same is None and start.is_public:
        return start.statement
    if of_the_same is None:
        return f"{start.statement} The ledger is of this text's people; who typed in both pays twice."
    return f"{start.statement} These are people of this run: what that has cost them comes on top, as the total says."


def _costs(
    config: RunConfig, separation: int, delta: float, target: float, noise_multiplier: Optional[float]
) -> tuple[MechanismCost, ...]:
    num_rounds, separation = config.rounds.count, max(1, separation)
    costs = []
    for name, kind in MECHANISMS.items():
        shape = shape_of(config, name, separation)
        epsilon = None
        if noise_multiplier:
            zcdp = planned_squared(name, num_rounds, separation, shape) / (2 * noise_multiplier**2)
            epsilon = Cost(zcdp, kind.traits.is_gaussian).epsilon(delta)
        needed = noise_of_budget(name, target, delta, num_rounds, separation, shape)
        privacy = msgspec.structs.replace(config.privacy.with_shape(shape), mechanism=name)
        by_round = running_noise(config, privacy) * needed
        costs.append(MechanismCost(name, epsilon, needed, over_rounds(by_round), by_round))
    return tuple(costs)


def running_noise(config: RunConfig, privacy: PrivacyConfig) -> NDArray[np.float64]:
    """Returns the noise's standard deviation in a coordinate of the running sum of mean updates, at noise multiplier 1.

    In clip norms, after each round [rounds, at most 4000], with whole cohorts.
    """
    num_rounds, cohort_size = min(config.rounds.count, _MOST_ROUNDS), config.rounds.cohort_size
    if privacy.traits.is_correlated:
        variances = prefix_variances(lambda draw: noise_sequence(privacy, draw), num_rounds)
    else:
        variances = np.arange(1.0, num_rounds + 1)
    if privacy.traits.is_split:
        variances = variances * cohort_size / config.aggregation.min_survivors
    elif privacy.traits.releases_uploads:
        variances = variances * cohort_size
    return np.sqrt(variances) / cohort_size


def over_rounds(noise: NDArray[np.float64]) -> float:
    """Returns the root mean square of the running sum's noise over the rounds."""
    return float(np.sqrt(np.square(noise).mean()))
