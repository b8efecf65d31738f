"""Makes what the server has of a client: its update raw, masked and encrypted, in sums, and in a noised sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Optional, Union

import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId
from models.vocabulary import NUM_SPECIAL
from orchestrator.aggregator import Cohort, Vector
from orchestrator.audit.attack_results import HIDDEN_VIEWS
from orchestrator.audit.updates import AttackedUpdate, People, UpdateMaker, encoder_for
from orchestrator.audit.witness import Witness, encrypt_upload, mask_upload
from orchestrator.encoding import Encoder
from orchestrator.errors import OrchestratorError, RunFolderError
from orchestrator.privacy.calibration import update_noise
from orchestrator.seeds import Purpose, simulation_rng
from orchestrator.settings.model import frozen_places
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import count_text

SUMS = (2, 10, 30, 100)
_EXAMPLE = 1.0  # noise multiplier


def sum_sizes(cohort_size: int) -> list[int]:
    """Returns how many clients the views of sums add, smallest first: SUMS, and as many as a round of the run."""
    return sorted({*SUMS, cohort_size} - {1})


def view_names(cohort_size: int) -> tuple[str, ...]:
    """Returns the names of the views, in the order in which they are shown.

    >>> view_names(10)
    ('raw', 'masked', 'encrypted', 'split', 'sum_2', 'sum_10', 'sum_30', 'sum_100', 'noised')
    """
    return ("raw", *HIDDEN_VIEWS, *(f"sum_{n}" for n in sum_sizes(cohort_size)), "noised")


@dataclass(frozen=True)
class Seen:
    """The two tensors that the attack reads, and the truth about whom they cover."""

    embedding: NDArray  # [V, D], any type of number
    output_bias: NDArray  # [V]
    typed: NDArray[np.bool_]  # [V]: words that anybody in it typed
    only_target: NDArray[np.bool_]  # [V]: words that the target typed and nobody else in it


Reason = str  # why a view can't be had
View = Union[Seen, Reason]


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on a sum of clipped updates: its standard deviation is multiplier * clip_norm a coordinate."""

    multiplier: float
    source: str  # "run", "given" or "example"
    clip_norm: float  # 0 stands for the median norm of the targets' updates


def noise_of(
    privacy: PrivacyConfig, cohort_size: int, clip_norm: Optional[float], given: Optional[float] = None
) -> Noise:
    """Returns the noise on one round's sum: as given, or the run's; an example of one clip norm if the run adds none.

    Args:
      privacy: the run's settings.
      cohort_size: how many clients a round sums.
      clip_norm: where an adaptive clip stands; None takes that of the settings.
      given: a noise multiplier.

    >>> noise_of(PrivacyConfig(mechanism="local", noise_multiplier=2.0, clip_norm=0.5), cohort_size=9, clip_norm=None)
    Noise(multiplier=6.0, source='run', clip_norm=0.5)
    """
    if not privacy.traits.adds_noise:
        return Noise(*((_EXAMPLE, "example") if given is None else (given, "given")), clip_norm=0.0)
    clip_norm = clip_norm or privacy.clip_norm
    if given is not None:
        return Noise(given, "given", clip_norm)
    multiplier = privacy.noise_multiplier
    if privacy.adaptive_clip:
        multiplier = update_noise(multiplier, privacy.count_noise)
    if privacy.traits.releases_uploads:  # each upload carries the whole of it
        multiplier *= math.sqrt(cohort_size)
    return Noise(multiplier, "run", clip_norm)


@dataclass(frozen=True)
class _Part:
    """A sum of updates, in the slots that the attack reads."""

    slots: NDArray  # [V * D + V]: uint32 as encoded, or float32 clipped
    typed_by: NDArray[np.int_]  # [V]: how many clients in it typed a word
    num_clients: int = 1

    def plus(self, other: _Part) -> _Part:
        return _Part(self.slots + other.slots, self.typed_by + other.typed_by, self.num_clients + other.num_clients)


class Views:
    """The server's views of every target, all from the same clients' updates.

    Attributes:
      targets: their updates.
      noise: that of the view `noised`.
      num_noised: how many clients that view sums.
    """

    def __init__(
        self, maker: UpdateMaker, config: RunConfig, people: People, noise: Noise, note: Callable[[str], None]
    ):
        """Trains everybody.

        Args:
          maker: makes their updates.
          config: of the run.
          people: the targets, and with whom they are summed.
          noise: of the view `noised`.
          note: is told what begins.

        Raises:
          RunFolderError: no target types some words and leaves others out.
        """
        self._config, self._size, self._round_num = config, maker.size, maker.round_num
        everybody = len(people.targets) + len(people.crowd)
        self._frozen = frozen_places(config.model, self._size)
        self._sums = sum_sizes(config.rounds.cohort_size)
        sums = [n for n in self._sums if n <= everybody]
        self.num_noised = min(config.rounds.cohort_size, everybody)
        most = max([*sums, self.num_noised])
        num_trained = len(people.targets) + min(most - 1, len(people.crowd))
        note(f"training {count_text(num_trained, 'client')}, as in a round")
        num_words = self._size.vocabulary_size - NUM_SPECIAL
        # A client that typed none or all of the model's words leaves nothing to tell apart.
        self.targets = tuple(u for u in maker.updates(people.targets) if 0 < u.typed.sum() < num_words)
        if not self.targets:
            raise RunFolderError(
                "nobody here can be attacked: the people with the most sentences type none of the model's words or all "
                "of them, or their training diverged; take a text of more people"
            )
        if not noise.clip_norm:
            noise = replace(noise, clip_norm=float(np.median([target.norm for target in self.targets])))
        self.noise = noise
        num_masked = max(config.rounds.cohort_size, len(self.targets))
        self._run_encoder = encoder_for(config, self._size, num_masked)
        self._encoders = {n: encoder_for(config, self._size, n) for n in sums}
        self._crowd: dict[int, _Part] = {}  # of each sum; 0 is the noised one
        self._peers: list[tuple[ClientId, Vector]] = []
        for place, update in enumerate(maker.updates(people.crowd[: most - 1]), 1):
            if len(self._peers) < num_masked - len(self.targets):
                self._peers.append((update.client_id, self._encode(self._run_encoder, update)))
            for key, num_clients in [(0, self.num_noised), *((n, n) for n in sums)]:
                if place < num_clients:
                    part = self._part(key, update)
                    self._crowd[key] = self._crowd[key].plus(part) if key in self._crowd else part

    def of_targets(self, note: Callable[[str], None]) -> list[dict[str, View]]:
        """Returns {view: what the server has, or the reason why it can't be had} for each target."""
        note(f"masking the updates of {count_text(len(self.targets), 'target')} in secure sums, and encrypting them")
        vectors = [self._encode(self._run_encoder, target) for target in self.targets]
        masked = self._masked(vectors)
        views: list[dict[str, View]] = []
        for place, (target, vector) in enumerate(zip(self.targets, vectors)):
            own = _Part(self._read(vector).view(np.int32), target.typed.astype(int))
            views.append(
                {
                    "raw": self._seen(own, target),
                    "masked": masked
                    if isinstance(masked, Reason)
                    else self._seen(replace(own, slots=self._read(masked[target.client_id]).view(np.int32)), target),
                    "encrypted": self._encrypted(own, vector, target),
                    "split": self._split(own, vector, target),
                    **{f"sum_{n}": self._sum(n, place) for n in self._sums},
                    "noised": self.noised(place, self.noise.multiplier),
                }
            )
        return views

    def noised(self, place: int, multiplier: float) -> View:
        """Returns the sum of a cohort around a target under noise; another multiplier scales the same noise."""
        if self.num_noised < 2:
            return "it takes two people to sum"
        part = self._around(0, place, self.num_noised)
        if (part.typed_by[NUM_SPECIAL:] > 0).all():
            return f"{self.num_noised} people together typed every word of the model"
        target = self.targets[place]
        rng = simulation_rng(self._config.seed, Purpose.ATTACK, self._round_num, ClientId(f"noise {target.client_id}"))
        noise = rng.standard_normal(part.slots.size, np.float32)
        noise *= np.float32(multiplier * self.noise.clip_norm)
        return self._seen(replace(part, slots=part.slots + noise), target)

    def _sum(self, num_clients: int, place: int) -> View:
        if num_clients not in self._encoders:
            return f"fewer than {num_clients} people train in this run"
        part = self._around(num_clients, place, num_clients)
        if (part.typed_by[NUM_SPECIAL:] > 0).all():
            return f"{num_clients} people together typed every word of the model"
        return self._seen(replace(part, slots=part.slots.view(np.int32)), self.targets[place])

    def _around(self, key: int, place: int, num_clients: int) -> _Part:
        """Returns the sum of a target, the crowd and, where these are too few, other targets."""
        part = self._part(key, self.targets[place])
        if key in self._crowd:
            part = part.plus(self._crowd[key])
        others = (self.targets[place + 1 :] + self.targets[:place])[: num_clients - part.num_clients]
        for other in others:
            part = part.plus(self._part(key, other))
        return part

    def _part(self, key: int, update: AttackedUpdate) -> _Part:
        """Returns one update as it enters the sum of `key` clients; 0: clipped, all counting alike, as under noise."""
        typed_by = update.typed.astype(int)
        if key:
            return _Part(self._read(self._encode(self._encoders[key], update)), typed_by)
        factor = np.float32(min(1.0, self.noise.clip_norm / max(update.norm, 1e-30)))
        return _Part(factor * np.concatenate([update.delta[0].ravel(), update.delta[-1]]), typed_by)

    def _masked(self, vectors: list[Vector]) -> Union[dict[ClientId, Vector], Reason]:
        """Returns what the server of a secure aggregation received of each target."""
        names = tuple(target.client_id for target in self.targets)
        sent = [*zip(names, vectors), *self._peers]
        members = tuple(name for name, _ in sent)
        try:
            witness = Witness(self._config.aggregation, names)
            witness.sum(sent, Cohort(self._round_num, members, self._config.aggregation.min_survivors), {})
        except OrchestratorError as error:
            return f"secure aggregation refuses a sum of {len(members)}: {error}"
        return witness.masked

    def _encrypted(self, own: _Part, vector: Vector, target: AttackedUpdate) -> View:
        """Returns the coefficients of the ciphertext that stand where a slot's value would."""
        _, coefficients = encrypt_upload(self._config.aggregation, target.client_id, self._round_num, vector)
        numbers = self._read(coefficients).astype(np.float64)
        return self._seen(replace(own, slots=numbers - numbers.max() / 2), target)  # centred: the rules look at signs

    def _split(self, own: _Part, vector: Vector, target: AttackedUpdate) -> View:
        """What the aggregator of a split sum has."""
        num_helpers = self._config.aggregation.helpers
        words = mask_upload(target.client_id, self._round_num, vector, num_helpers)
        return self._seen(replace(own, slots=self._read(words).view(np.int32)), target)

    def _encode(self, encoder: Encoder, update: AttackedUpdate) -> Vector:
        """Returns the vector that leaves the phone."""
        rng = simulation_rng(self._config.seed, Purpose.ROUNDING, self._round_num, update.client_id)
        return encoder.encode(update.delta, update.weight, rng)

    def _read(self, vector: NDArray) -> NDArray:
        """Returns the slots of a vector that the attack reads: those of the embedding and of the output bias."""
        return np.concatenate(
            [vector[self._size.place_of(self._size.role(role), self._frozen)] for role in ("embedding", "output_bias")]
        )

    def _seen(self, part: _Part, target: AttackedUpdate) -> Seen:
        num_rows = self._size.vocabulary_size
        return Seen(
            embedding=part.slots[:-num_rows].reshape(num_rows, -1),
            output_bias=part.slots[-num_rows:],
            typed=part.typed_by > 0,
            only_target=target.typed & (part.typed_by == 1),
        )
