"""Releases counts of words and of pairs of words: one sum over people, under noise and a ledger of its own.

A folder holds one release:

    release.json           how it was released
    ngram.npz              what is kept of the noisy sum
    privacy_ledger.jsonl   what was charged: see orchestrator.privacy.ledger
    noise_seed             of its noise; secret

It is made once. A call that was cut off is repeated by the same call, at no further cost where nothing else can come
out of it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.client_data import Sentences
from models.corpus import ClientId
from models.files import write_atomically
from models.private_bigram import PrivateBigram, Slots, build_private_bigram, person_vector
from orchestrator.aggregator import Aggregator, Cohort, Vector
from orchestrator.encoding import Encoder
from orchestrator.errors import PrivacyStop, RunFolderError
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.ledger import LEDGER_FILE, epsilon_spent, read_ledger
from orchestrator.privacy.mechanism import Mechanism, build_mechanism, summed_stddev
from orchestrator.rounds.build import bits_under_noise, build_aggregator, require_summable
from orchestrator.run.folder import NGRAM_FILE, NGRAM_RELEASE_FILE
from orchestrator.run.results import read_figures, write_figures
from orchestrator.run.spent import require_counts_ledger
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
class CountsRelease:
    """A release that is to be made.

    Attributes:
      folder: of the release.
      config: as a run of one round, see `one_round`.
      people: who are counted, and their sentences.
      slots: what is counted.
    """

    folder: Path
    config: RunConfig
    people: Mapping[ClientId, Sentences]
    slots: Slots

    def read(self, what: str) -> Optional[NgramRelease]:
        """Returns how the folder's release was made; None if there is none.

        Args:
          what: the folder is said to hold.

        Raises:
          RunFolderError: it is of another number of people, another epsilon or other words, damaged, or without its
            ledger.
        """
        require_counts_ledger(self.folder)
        there = read_figures(self.folder / NGRAM_RELEASE_FILE, NgramRelease)
        if there is None:
            return None
        if there.population != len(self.people):
            raise RunFolderError(
                f"{self.folder} holds {what} of {count_text(there.population, 'person')}, and these settings count "
                f"{len(self.people):,}: take the text, data.min_sentences and data.forgotten of then"
            )
        asked = self.slots.pair_words, self.config.privacy.noise_multiplier
        if (there.pair_words, there.noise_multiplier) != asked:
            raise RunFolderError(
                f"{self.folder} holds {what} for epsilon {there.epsilon:.3g} with pairs of {there.pair_words:,} words: "
                f"another one would cost the same people again; take --epsilon {there.epsilon:.6g} and --words "
                f"{there.pair_words}"
            )
        return there

    def make(self, note: Callable[[str], None]) -> NgramRelease:
        """Sums, and keeps what comes out.

        Args:
          note: is told what begins.

        Raises:
          PrivacyStop: the folder was charged for another sum, or for one that can't be made again.
          RunFolderError: it was begun for another epsilon, or its ledger or its noise_seed is damaged.
        """
        _require_the_same(self.folder, self.config.privacy)
        config, aggregator = self.config, build_aggregator(self.config.aggregation)
        people = count_text(len(self.people), "person")
        note(f"summing {self.slots.size:,} slots over {people} by {aggregator.name}")
        noisy, noise_std = self._noisy_sum(aggregator)
        model = build_private_bigram(noisy, noise_std, self.slots)
        write_atomically(self.folder / NGRAM_FILE, _to_bytes(model))
        spent = epsilon_spent(self.folder)
        assert spent is not None  # it was charged
        released = NgramRelease(
            epsilon=spent,
            delta=config.privacy.delta,
            noise_multiplier=config.privacy.noise_multiplier,
            population=len(self.people),
            aggregator=aggregator.name,
            mechanism=config.privacy.mechanism,
            pair_words=self.slots.pair_words,
            noise_std=noise_std,
            pairs=model.pairs.nnz,
        )
        write_figures(self.folder / NGRAM_RELEASE_FILE, released)
        return released

    def _noisy_sum(self, aggregator: Aggregator) -> tuple[NDArray[np.float32], float]:
        """Returns (the sum of everybody's vectors under noise, the noise's standard deviation in a slot)."""
        people, config, encoder = tuple(self.people), self.config, self._encoder()
        mechanism = build_mechanism(config, self.folder, len(people))
        cohort = Cohort(1, people, config.aggregation.min_survivors)
        try:
            mechanism.before_round(cohort)
            total = aggregator.sum(self._vectors(encoder, mechanism), cohort, {}).total
            (mean,) = mechanism.release(total, encoder, cohort).mean_delta
        except PrivacyStop:  # a first sum fits into the budget: there was one before
            raise PrivacyStop(
                f"{self.folder} was charged for another sum, of other --words or by other versions of the software: "
                "this one would cost the same people again; repeat the call that was cut off, as it was"
            ) from None
        return mean * np.float32(len(people)), summed_stddev(config, encoder, len(people)) * encoder.step

    def _encoder(self) -> Encoder:
        return Encoder(
            clip_norm=self.config.privacy.clip_norm,
            num_clients=self.config.rounds.cohort_size,
            max_weight=1.0,
            shapes=((self.slots.size,),),
            bits=bits_under_noise(self.config),
        )

    def _vectors(self, encoder: Encoder, mechanism: Mechanism) -> Iterator[tuple[ClientId, Vector]]:
        for person, sentences in self.people.items():
            rng = simulation_rng(self.config.seed, Purpose.ROUNDING, 0, person)
            vector = encoder.encode((person_vector(sentences, self.slots),), 1.0, rng)
            yield person, mechanism.client_noise(vector, encoder, 1, person)


def one_round(config: RunConfig, num_people: int, epsilon: float, delta: float) -> RunConfig:
    """Returns a release of some people's counts as a run of one round in which everybody takes part once.

    Noise comes from the clients where the settings say so; else from the server, and one round shares none with others.

    Args:
      config: its seed, how it sums, and the mechanism.
      num_people: who are counted.
      epsilon, delta: of the release; a delta of 0 follows from the number of people.

    Raises:
      ConfigError: its aggregator can't sum so many people, or its delta is too large.
    """
    mechanism = config.privacy.mechanism if config.privacy.traits.from_clients else "central"
    privacy = PrivacyConfig(mechanism=mechanism, clip_norm=1.0, epsilon=epsilon, delta=delta)
    one = RunConfig(
        seed=config.seed,
        model=ModelConfig(start_from_word_counts=False),
        client=ClientConfig(weighting="equal"),
        server=ServerConfig(warmup_rounds=0),
        rounds=RoundsConfig(count=1, cohort_size=num_people),
        aggregation=msgspec.structs.replace(config.aggregation, groups=1),
        privacy=privacy,
    )
    require_summable(one)
    return resolve_privacy(one, num_people)


def _require_the_same(folder: Path, privacy: PrivacyConfig) -> None:
    """Refuses what can't be the release that was begun in a folder, if one was.

    The server adds its noise to a sum whose digest is on the ledger, so that another sum shows. What clients add is out
    when they send it, and until the sum is known nothing on the ledger tells whether they sent the same.
    """
    if not (folder / LEDGER_FILE).exists():
        return
    head, charges = read_ledger(folder)
    if charges and privacy.traits.from_clients and not any(charge.sum_digest for charge in charges):
        raise PrivacyStop(
            f"{folder} was cut off while people's noisy vectors were summed: a second sum would cost them again, so "
            "nothing more is released, and what was charged stays in the total"
        )
    if head.noise_multiplier != privacy.noise_multiplier:
        raise RunFolderError(f"{folder} was begun for another epsilon: repeat the call with --epsilon {head.budget}")


def read_counts(folder: Path, vocabulary_size: int) -> Optional[PrivateBigram]:
    """Returns the model that a release in a folder left; None if it released none.

    Raises:
      RunFolderError: a file is damaged or missing.
    """
    release = read_figures(folder / NGRAM_RELEASE_FILE, NgramRelease)
    if release is None:
        return None
    path, slots = folder / NGRAM_FILE, Slots(vocabulary_size, release.pair_words)
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            words, parts = arrays["words"], tuple(arrays[name] for name in ("data", "indices", "indptr"))
        pairs = sparse.csr_matrix(parts, shape=(slots.side, slots.side))
        if words.shape != (slots.vocabulary_size,):
            raise ValueError(f"it has {len(words)} words")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunFolderError(f"{path} is missing or damaged ({error}): restore it") from None
    return PrivateBigram(slots, words, pairs, release.noise_std)


def _to_bytes(model: PrivateBigram) -> bytes:
    buffer, pairs = io.BytesIO(), model.pairs
    np.savez_compressed(buffer, words=model.words, data=pairs.data, indices=pairs.indices, indptr=pairs.indptr)
    return buffer.getvalue()
