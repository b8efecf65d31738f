"""The mechanisms of differential privacy, as rows: the noise of each, and what it costs a person.

What the settings' rules ask of a mechanism stands in orchestrator/settings/kinds.py; docs/extending.md shows how to add
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from orchestrator.privacy import noise
from orchestrator.privacy.correlated import Draw, buffered_noise, matrix_noise, tree_noise
from orchestrator.privacy.sensitivity import (
    banded_squared,
    buffered_squared,
    square_root_coefficients,
    tree_squared_of_rotation,
)
from orchestrator.privacy.tally import BandedTally, BufferedTally, IndependentTally, Tally, TreeTally
from orchestrator.settings.kinds import MECHANISM_TRAITS, MechanismTraits
from orchestrator.settings.noise_shape import NoiseShape


def _num_turns(num_rounds: int, separation: int, shape: NoiseShape) -> float:
    return float(-(-num_rounds // separation))


def _independent_tally(shape: NoiseShape) -> Tally:
    return IndependentTally()


@dataclass(frozen=True)
class MechanismKind:
    """A mechanism.

    Attributes:
      traits: what it promises.
      planned_squared: the squared sensitivity of all rounds together, in units of the clip norm, for a person who takes
        part in each of its turns; from the number of rounds, the separation and the shape.
      new_tally: what it has cost whom, before anyone took part; from the shape.
      sequence: where rounds share noise: the server's noise of round 1, 2, ..., float64 [dim], in units of the standard
        deviation; from the shape and independent draws. None: the server draws each round's noise anew, if any.
      coefficients: of a mechanism with bands: the first column [bands] of the Toeplitz matrix whose inverse shapes the
        noise; the number of bands is chosen by it. None takes the square root's.
      client_noise: one client's noise in grid steps, int64 [dim], from the seed, a label, dim and the standard
        deviation; None if the server adds the noise.
    """

    traits: MechanismTraits
    planned_squared: Callable[[int, int, NoiseShape], float] = _num_turns
    new_tally: Callable[[NoiseShape], Tally] = _independent_tally
    sequence: Optional[Callable[[NoiseShape, Draw], Iterator[NDArray[np.float64]]]] = None
    coefficients: Optional[Callable[[int], NDArray[np.float64]]] = None
    client_noise: Optional[Callable[[bytes, str, int, float], NDArray[np.int64]]] = None


def _rounded_normal(seed: bytes, label: str, dim: int, stddev: float) -> NDArray[np.int64]:
    return np.rint(noise.normal(seed, label, dim) * stddev).astype(np.int64)


def _banded_turns(num_rounds: int, separation: int, shape: NoiseShape) -> float:
    return banded_squared(square_root_coefficients(shape.bands), -(-num_rounds // separation))


MECHANISMS: dict[str, MechanismKind] = {
    "central": MechanismKind(MECHANISM_TRAITS["central"]),
    "tree": MechanismKind(
        MECHANISM_TRAITS["tree"],
        planned_squared=lambda num_rounds, separation, shape: float(tree_squared_of_rotation(num_rounds, separation)),
        new_tally=lambda shape: TreeTally(),
        sequence=lambda shape, draw: tree_noise(draw),
    ),
    "matrix": MechanismKind(
        MECHANISM_TRAITS["matrix"],
        planned_squared=_banded_turns,
        new_tally=lambda shape: BandedTally(square_root_coefficients(shape.bands)),
        sequence=lambda shape, draw: matrix_noise(draw, square_root_coefficients(shape.bands)),
        coefficients=square_root_coefficients,
    ),
    "blt": MechanismKind(
        MECHANISM_TRAITS["blt"],
        planned_squared=lambda num_rounds, separation, shape: buffered_squared(shape.buffers, num_rounds, separation),
        new_tally=lambda shape: BufferedTally(shape.buffers),
        sequence=lambda shape, draw: buffered_noise(draw, shape.buffers),
    ),
    "distributed": MechanismKind(MECHANISM_TRAITS["distributed"], client_noise=noise.discrete_normal),
    "local": MechanismKind(MECHANISM_TRAITS["local"], client_noise=_rounded_normal),
}
