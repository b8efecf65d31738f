"""A run's mechanism bound to a round: see orchestrator.rounds.types.Privacy.

The noise is added to integers, in steps of the encoder's grid, and rounded to it: what is released lies on the grid
whatever the floating-point noise's last bits are. The mean divides by the cohort's size, whoever survived.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId
from models.weights import Weights
from orchestrator.aggregator import Cohort, Vector
from orchestrator.encoding import Encoder
from orchestrator.errors import PrivacyStop, RunFolderError
from orchestrator.privacy import noise
from orchestrator.privacy.calibration import update_noise
from orchestrator.privacy.correlated import Draw
from orchestrator.privacy.ledger import LEDGER_FILE, Ledger, LedgerHead
from orchestrator.privacy.mechanisms import MECHANISMS, MechanismKind
from orchestrator.rounds.types import Release
from orchestrator.settings.kinds import kind_of
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.run_config import RunConfig


class Mechanism:
    """Noise and ledger of a run.

    Args:
      config: resolved (orchestrator.privacy.calibration).
      seed: of the noise.
      ledger: of the run; None to replay a round, which releases nothing.
    """

    def __init__(self, config: RunConfig, seed: bytes, ledger: Optional[Ledger]):
        self._config, self._seed, self._ledger = config, seed, ledger
        self._kind: MechanismKind = kind_of(MECHANISMS, "privacy.mechanism", config.privacy.mechanism)
        self._sequence: Iterator[NDArray[np.float64]] = iter(())
        self._next_round = 0  # of the sequence; 0 = not begun
        self._charged_ahead = 0  # the round that was charged before there was a sum

    def before_round(self, cohort: Cohort) -> None:
        """See orchestrator.rounds.types.Privacy.before_round. Noise of clients is charged here.

        Each upload is a release under local noise, and under distributed noise the sum is one as soon as it is opened.
        A round whose sum is on the ledger is being repeated; it is free if the sum is the same.
        """
        if self._ledger is None:
            return
        self._ledger.check(cohort)
        traits, round_num = self._kind.traits, cohort.round_num
        if traits.releases_uploads or (traits.is_split and not self._ledger.has_sum(round_num)):
            self._ledger.charge(round_num, cohort.members)
            self._charged_ahead = round_num

    def client_noise(self, vector: Vector, encoder: Encoder, round_num: int, client_id: ClientId) -> Vector:
        """See orchestrator.rounds.types.Privacy.client_noise.

        A phone would draw it from its own operating system. The simulation derives it from the run's sealed seed, the
        client and the very vector, so that a resumed round sends the same and a changed vector gets other noise.
        """
        if self._kind.client_noise is None:
            return vector
        stddev = client_stddev(self._config, encoder)
        digest = noise.keyed_digest(self._seed, f"client {round_num} {client_id}", vector)
        own = self._kind.client_noise(self._seed, f"client {round_num} {digest}", encoder.dim, stddev)
        noised = vector.copy()
        noised[: encoder.dim] += own.astype(np.uint32)  # modulo 2**32, as the sum
        return noised

    def release(self, total: Vector, encoder: Encoder, cohort: Cohort) -> Release:
        """See orchestrator.rounds.types.Privacy.release: checked, charged on disk, only then noised and let out."""
        num_summed, stddev = len(cohort.members), 0.0
        if self._kind.traits.from_clients:
            stddev = summed_stddev(self._config, encoder, num_summed) + math.sqrt(num_summed)  # rounded to the grid
        encoder.check_sum(total, num_summed, stddev)
        digest = noise.keyed_digest(self._seed, f"sum {cohort.round_num}", total)
        if self._ledger is not None and not (
            self._kind.traits.releases_uploads or self._ledger.is_charged(cohort.round_num, digest)
        ):
            if self._charged_ahead == cohort.round_num:
                self._ledger.bind(cohort.round_num, digest)
            elif self._kind.traits.is_correlated and self._ledger.is_charged(cohort.round_num):
                raise PrivacyStop(
                    f"round {cohort.round_num} was released before with another sum, and the same noise under two sums "
                    "gives their difference away: resume with the workers and versions that the run had, or train anew"
                )
            else:
                self._ledger.charge(cohort.round_num, cohort.members, digest)
            self._charged_ahead = 0
        mean_delta, share = self._noised(total, encoder, cohort, digest)
        return Release(
            mean_delta, share, self._ledger.epsilon(cohort.round_num) if self._ledger is not None else math.nan
        )

    def _noised(self, total: Vector, encoder: Encoder, cohort: Cohort, digest: str) -> tuple[Weights, Optional[float]]:
        """Returns (the mean with its noise, the noised share of clients under the clip norm)."""
        privacy, cohort_size = self._config.privacy, self._config.rounds.cohort_size
        coordinates: NDArray = total[: encoder.dim].view(np.int32)
        share = None
        if not self._kind.traits.from_clients:
            scale = server_stddev(privacy, encoder)
            own = self._unit_noise(cohort.round_num, encoder.dim, digest) * scale  # a copy: sequences keep theirs
            coordinates = np.add(np.rint(own, out=own), coordinates, out=own)
        if privacy.adaptive_clip:
            own_count = noise.normal(self._seed, f"count {cohort.round_num} {digest}", 1)[0] * privacy.count_noise
            # Whole numbers: the last bits of an unrounded sum would tell which count it began with (Mironov 2012).
            share = (int(total[encoder.dim]) + round(float(own_count))) / cohort_size
        return encoder.mean(coordinates, cohort_size * encoder.max_weight), share

    def _unit_noise(self, round_num: int, dim: int, digest: str) -> NDArray[np.float64]:
        """Returns what the server adds in a round, in units of its standard deviation, float64 [dim]."""
        privacy = self._config.privacy
        if self._kind.sequence is None:
            return noise.normal(self._seed, f"{privacy.mechanism} {round_num} {digest}", dim)
        if self._next_round == 0 or round_num < self._next_round:  # at the start, and after a resume

            def draw(label: str) -> NDArray[np.float64]:
                return noise.normal(self._seed, f"{privacy.mechanism} {label}", dim)

            self._sequence, self._next_round = noise_sequence(privacy, draw), 1
        while self._next_round < round_num:  # abandoned rounds leave theirs out, too
            next(self._sequence)
            self._next_round += 1
        self._next_round += 1
        return next(self._sequence)


def noise_sequence(privacy: PrivacyConfig, draw: Draw) -> Iterator[NDArray[np.float64]]:
    """Returns the noise of round 1, 2, ... of a mechanism whose noise is correlated."""
    sequence = kind_of(MECHANISMS, "privacy.mechanism", privacy.mechanism).sequence
    if sequence is None:
        raise ValueError(f"mechanism must have correlated noise, got mechanism={privacy.mechanism!r}")
    return sequence(privacy.shape, draw)


def server_stddev(privacy: PrivacyConfig, encoder: Encoder) -> float:
    """Returns the standard deviation, in grid steps, of the server's noise in each coordinate of a sum."""
    multiplier = privacy.noise_multiplier
    if privacy.adaptive_clip:
        multiplier = update_noise(multiplier, privacy.count_noise)
    return multiplier * encoder.l2_bound


def client_stddev(config: RunConfig, encoder: Encoder) -> float:
    """Returns the standard deviation, in grid steps, of one client's noise in each coordinate.

    Distributed noise must be enough when only the fewest survivors that a round may end with are left. The sum of
    discrete normal numbers is not quite discrete normal; from 16 steps on the difference vanishes below exp(-1000).

    Source: Kairouz, Liu, Steinke 2021, https://arxiv.org/abs/2102.06387, theorem 1.
    """
    stddev = config.privacy.noise_multiplier * encoder.l2_bound
    if config.privacy.traits.is_split:
        stddev /= math.sqrt(config.aggregation.min_survivors)
    return stddev


def summed_stddev(config: RunConfig, encoder: Encoder, num_summed: int) -> float:
    """Returns the standard deviation, in grid steps, of the noise in each coordinate of what a round releases.

    Args:
      config: resolved.
      encoder: of the round.
      num_summed: clients in the sum, who may be the ones that add the noise.
    """
    if config.privacy.traits.from_clients:
        return math.sqrt(num_summed) * client_stddev(config, encoder)
    return server_stddev(config.privacy, encoder)


def build_mechanism(config: RunConfig, directory: Path, num_people: int) -> Mechanism:
    """Returns the mechanism of a run, with its seed and its ledger; it makes both if the run begins.

    Raises:
      RunFolderError: one of them is missing or damaged, or of other settings.
      ValueError: the configuration is not resolved.
    """
    if not (config.privacy.noise_multiplier > 0 and config.privacy.delta > 0):
        raise ValueError(f"privacy must be resolved (orchestrator.privacy.calibration), got privacy={config.privacy}")
    has_ledger, rounds = (directory / LEDGER_FILE).exists(), directory / "rounds.jsonl"
    begun = has_ledger or (directory / noise.SEED_FILE).exists()
    if not has_ledger and rounds.exists() and rounds.stat().st_size:
        raise RunFolderError(
            f"{directory / LEDGER_FILE} is missing, and rounds were released: restore it or train anew"
        )
    seed = noise.read_seed(directory) if begun else noise.create_seed(directory)
    privacy = config.privacy
    head = LedgerHead(
        mechanism=privacy.mechanism,
        noise_multiplier=privacy.noise_multiplier,
        clip_norm=privacy.clip_norm,
        population=num_people,
        delta=privacy.delta,
        budget=privacy.epsilon,
        separation=privacy.separation,
        bands=privacy.bands,
        buffers=privacy.buffers,
        noise_commitment=noise.commitment(seed),
    )
    return Mechanism(config, seed, Ledger(directory, head))
