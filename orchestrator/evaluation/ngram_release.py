"""Releases a private run's n-gram: one sum over all training people, under noise and a ledger of its own.

It is the baseline that a private model has to beat. Its budget is the run's once more, not a part of it: both are
releases about the same people, and orchestrator.run.spent adds them up. DIR/private_ngram holds

    release.json           how it was released
    ngram.npz              what is kept of the noisy sum
    privacy_ledger.jsonl   what was charged: see orchestrator.privacy.ledger
    noise_seed             of its noise; secret
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.corpus import ClientId
from models.files import write_atomically
from models.private_bigram import PrivateBigram, Slots, build_private_bigram, person_vector
from models.vocabulary import NUM_SPECIAL
from orchestrator.aggregator import Aggregator, Cohort, Vector
from orchestrator.encoding import Encoder
from orchestrator.errors import ConfigError, PrivacyStop, RunFolderError
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.ledger import LEDGER_FILE, epsilon_spent, read_ledger
from orchestrator.privacy.mechanism import Mechanism, build_mechanism, summed_stddev
from orchestrator.privacy.noise import SEED_FILE
from orchestrator.rounds.build import bits_under_noise, build_aggregator, require_summable
from orchestrator.run.folder import NGRAM_FILE, NGRAM_FOLDER, NGRAM_RELEASE_FILE
from orchestrator.run.results import read_figures, write_figures
from orchestrator.run.saved import Run
from orchestrator.run.spent import require_ngram_ledger
from orchestrator.seeds import Purpose, simulation_rng
from orchestrator.settings.model import ModelConfig
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import ClientConfig, RoundsConfig, ServerConfig
from orchestrator.units import count_text


class NgramRelease(msgspec.Struct, frozen=True):
    """release.json.

    Attributes:
      epsilon, delta: what the release has cost each person.
      noise_multiplier: over the L2 norm of a person's vector, which is at most 1.
      population: people who were summed.
      aggregator, mechanism: who summed, and who added the noise.
      pair_words: words of which pairs were counted.
      noise_std: of a slot of the sum.
      pairs: that were kept, see models.private_bigram.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    population: int
    aggregator: str
    mechanism: str
    pair_words: int
    noise_std: float
    pairs: int


@dataclass(frozen=True)
class ReleasedNgram:
    """A run's private n-gram: how it was released, and what predicts."""

    release: NgramRelease
    model: PrivateBigram


def release_ngram(run: Run, epsilon: Optional[float], pair_words: int, note: Callable[[str], None]) -> NgramRelease:
    """Sums and keeps the n-gram of a private run. It is one release: what is there already is not made again.

    Args:
      run: under differential privacy.
      epsilon: of this release, at the run's delta; None takes the run's.
      pair_words: words of which pairs are counted, at most; the others are counted one by one.
      note: is told what begins.

    Raises:
      ConfigError: the run has no differential privacy, or its aggregator can't sum so many people.
      RunFolderError: another n-gram was released already, or the text is not the run's.
      PrivacyStop: another one was charged, or cut off where the same can't be made again.
    """
    people = tuple(run.text.data.train)
    config = _release_config(run, len(people), epsilon)
    slots = Slots(run.vocabulary.size, min(pair_words, run.vocabulary.size - NUM_SPECIAL))
    folder = run.path / NGRAM_FOLDER
    if (there := read_release(run.path)) is not None:
        if (there.pair_words, there.noise_multiplier) != (slots.pair_words, config.privacy.noise_multiplier):
            raise RunFolderError(
                f"{folder} holds an n-gram for epsilon {there.epsilon:.3g} with pairs of {there.pair_words:,} words: "
                "another one would cost the same people again; leave --epsilon and --words out"
            )
        return there
    run.folder.lock()
    folder.mkdir(exist_ok=True)
    _require_the_same(run, config.privacy)
    aggregator = build_aggregator(config.aggregation)
    note(f"summing {slots.size:,} slots over {count_text(len(people), 'person')} by {aggregator.name}")
    noisy, noise_std = _noisy_sum(run, config, slots, aggregator)
    model = build_private_bigram(noisy, noise_std, slots)
    write_atomically(folder / NGRAM_FILE, _to_bytes(model))
    spent = epsilon_spent(folder)
    assert spent is not None  # it was charged
    released = NgramRelease(
        epsilon=spent,
        delta=config.privacy.delta,
        noise_multiplier=config.privacy.noise_multiplier,
        population=len(people),
        aggregator=aggregator.name,
        mechanism=config.privacy.mechanism,
        pair_words=slots.pair_words,
        noise_std=noise_std,
        pairs=model.pairs.nnz,
    )
    write_figures(folder / NGRAM_RELEASE_FILE, released)
    return released


def _require_the_same(run: Run, privacy: PrivacyConfig) -> None:
    """Refuses what can't be the release that was begun in the run's folder, if one was.

    The server adds its noise to a sum whose digest is on the ledger, so that another sum shows. What clients add is out
    when they send it, and until the sum is known nothing on the ledger tells whether they sent the same.
    """
    folder = run.path / NGRAM_FOLDER
    if not (folder / LEDGER_FILE).exists():
        return
    head, charges = read_ledger(folder)
    if run.config.data.forgotten and not (folder / SEED_FILE).exists():
        raise PrivacyStop(
            f"{folder} was charged for the n-gram of the run that this one replaces: another one would cost the same "
            "people again, so this run releases none"
        )
    if charges and privacy.traits.from_clients and not any(charge.sum_digest for charge in charges):
        raise PrivacyStop(
            f"{folder} was cut off while people's noisy vectors were summed: a second sum would cost them again, so "
            "this run releases no n-gram, and what was charged stays in its total"
        )
    if head.noise_multiplier != privacy.noise_multiplier:
        raise RunFolderError(f"{folder} was begun for another epsilon: repeat the call with --epsilon {head.budget}")


def _release_config(run: Run, num_people: int, epsilon: Optional[float]) -> RunConfig:
    """Returns the release as a run of one round in which everybody takes part once.

    Noise comes from the clients where the run's does; else from the server, and one round shares none with others.
    """
    of_run = run.config.privacy
    if not of_run.traits.adds_noise:
        raise ConfigError(
            f"{run.path} has privacy.mechanism = 'none': `fedkeys evaluate` compares it with n-grams of all the text; "
            "a private n-gram is the baseline of a run under differential privacy"
        )
    privacy = PrivacyConfig(
        mechanism=of_run.mechanism if of_run.traits.from_clients else "central",
        clip_norm=1.0,
        epsilon=epsilon or of_run.epsilon or epsilon_spent(run.path) or 0.0,
        delta=of_run.delta,
    )
    config = RunConfig(
        seed=run.config.seed,
        model=ModelConfig(start_from_word_counts=False),
        client=ClientConfig(weighting="equal"),
        server=ServerConfig(warmup_rounds=0),
        rounds=RoundsConfig(count=1, cohort_size=num_people),
        aggregation=msgspec.structs.replace(run.config.aggregation, groups=1),
        privacy=privacy,
    )
    require_summable(config)
    return resolve_privacy(config, num_people)


def _noisy_sum(run: Run, config: RunConfig, slots: Slots, aggregator: Aggregator) -> tuple[NDArray[np.float32], float]:
    """Returns (the sum of everybody's vectors under noise, the noise's standard deviation in a slot)."""
    people, folder = tuple(run.text.data.train), run.path / NGRAM_FOLDER
    mechanism, encoder = build_mechanism(config, folder, len(people)), _encoder(config, slots)
    cohort = Cohort(1, people, config.aggregation.min_survivors)
    try:
        mechanism.before_round(cohort)
        total = aggregator.sum(_vectors(run, encoder, slots, mechanism), cohort, {}).total
        (mean,) = mechanism.release(total, encoder, cohort).mean_delta
    except PrivacyStop:  # a first sum fits into the budget: there was one before
        raise PrivacyStop(
            f"{folder} was charged for another sum, of other --words or by other versions of the software: this one "
            "would cost the same people again; repeat the call that was cut off, as it was"
        ) from None
    return mean * np.float32(len(people)), summed_stddev(config, encoder, len(people)) * encoder.step


def _encoder(config: RunConfig, slots: Slots) -> Encoder:
    return Encoder(
        clip_norm=config.privacy.clip_norm,
        num_clients=config.rounds.cohort_size,
        max_weight=1.0,
        shapes=((slots.size,),),
        bits=bits_under_noise(config),
    )


def _vectors(run: Run, encoder: Encoder, slots: Slots, mechanism: Mechanism) -> Iterator[tuple[ClientId, Vector]]:
    for person, sentences in run.text.data.train.items():
        rng = simulation_rng(run.config.seed, Purpose.ROUNDING, 0, person)
        vector = encoder.encode((person_vector(sentences, slots),), 1.0, rng)
        yield person, mechanism.client_noise(vector, encoder, 1, person)


def read_release(path: Path) -> Optional[NgramRelease]:
    """Returns how the n-gram of the run in a folder was released; None if it was not.

    Raises:
      RunFolderError: the file is damaged, or an n-gram lies without its ledger.
    """
    require_ngram_ledger(path)
    return read_figures(path / NGRAM_FOLDER / NGRAM_RELEASE_FILE, NgramRelease)


def read_ngram(run: Run) -> Optional[ReleasedNgram]:
    """Returns a run's private n-gram; None if it released none.

    Raises:
      RunFolderError: a file is damaged or missing.
    """
    release = read_release(run.path)
    if release is None:
        return None
    path, slots = run.path / NGRAM_FOLDER / NGRAM_FILE, Slots(run.vocabulary.size, release.pair_words)
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            words, parts = arrays["words"], tuple(arrays[name] for name in ("data", "indices", "indptr"))
        pairs = sparse.csr_matrix(parts, shape=(slots.side, slots.side))
        if words.shape != (slots.vocabulary_size,):
            raise ValueError(f"it has {len(words)} words")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunFolderError(f"{path} is missing or damaged ({error}): restore it") from None
    return ReleasedNgram(release, PrivateBigram(slots, words, pairs, release.noise_std))


def _to_bytes(model: PrivateBigram) -> bytes:
    buffer, pairs = io.BytesIO(), model.pairs
    np.savez_compressed(buffer, words=model.words, data=pairs.data, indices=pairs.indices, indptr=pairs.indptr)
    return buffer.getvalue()
