"""Updates to integers and back: clip, rotate, weigh, round to a grid, and count modulo 2**32.

Every aggregator sums what `Encoder.encode` returns, so plain, masked and encrypted sums agree bit for bit. A
vector is

    [coordinate_1 .. coordinate_dim, (1 if the update was under the clip norm else 0,) weight]

The bracketed slot exists with `count_under_clip`; the last slot is always the weight. Coordinates are signed
and stored in two's complement, so a sum of them is read back as int32.

The adaptive clip needs one more secure sum per round: how many clients were under the clip norm. It travels
in its own slot of the same vector, because a second vector would cost each client a second set of keys and
shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import OrchestratorError

Weights = tuple[NDArray[np.float32], ...]
Vector = NDArray[np.uint32]

_MODULUS_BITS = 32
_ROUNDING_SLACK = 1.0 - 2.0**-20  # keeps float32's own rounding of a scaled coordinate inside the grid
_BLOCK = 1 << 16  # coordinates rounded at a time; the temporaries stay in the cache
_SATURATION_BITS = 40  # a rotated coordinate leaves the grid with probability below 2**-40 a vector


class NonFiniteUpdate(OrchestratorError):
    """A client's update holds a NaN or an infinity: local training diverged."""


@dataclass(frozen=True)
class Encoder:
    """Encodes one client's update as uint32 [dim + 1] and decodes the sum of up to num_clients of them.

    The grid of a coordinate is `step` wide. Rounding is stochastic, so the decoded mean is unbiased. Its error
    in a coordinate is always below num_summed * step * max_weight / weight_sum and has a standard deviation of
    at most half of that / sqrt(num_summed); float32 adds its own rounding, below 2**-21 of the clip norm.

    Without rotation one coordinate may hold the whole norm, so step is about clip_norm / 2**(bits - 1). With
    rotation the bounds hold for rotated coordinates (so in L2 norm for the update): the norm is spread evenly,
    and the grid need only reach what a rotated coordinate exceeds with probability 2**-40; there it saturates.

    Attributes:
      clip_norm: the largest L2 norm over all tensors together; longer updates are scaled down to it.
      num_clients: the most vectors that may be summed.
      max_weight: the largest weight of one client.
      shapes: the model's tensors, in order.
      bits: of a coordinate, sign included; None takes all the headroom, 32 - ceil(log2(num_clients)).
      rotate: apply a randomised Hadamard rotation, shared by the round's clients.
      rotation_seed: of the round; not a secret.
      count_under_clip: add the slot that AdaptiveClip reads.

    Raises:
      ValueError: an attribute is out of range, or bits + ceil(log2(num_clients)) > 32.

    Source: stochastic rounding and rotation: Suresh et al. 2017, https://arxiv.org/abs/1611.00429, sections
    2 and 3.

    >>> encoder = Encoder(clip_norm=1.0, num_clients=4, max_weight=8, shapes=((2,),))
    >>> encoder.bits_used, encoder.dim
    (30, 2)
    >>> rng = np.random.default_rng(1)
    >>> total = sum(encoder.encode((np.float32([0.5, x]),), w, rng) for x, w in ((0.25, 2), (-0.25, 6)))
    >>> (mean,), weight_sum = encoder.decode(total, num_summed=2)
    >>> mean.round(6).tolist(), weight_sum
    ([0.5, -0.125], 8.0)
    """

    clip_norm: float
    num_clients: int
    max_weight: float
    shapes: tuple[tuple[int, ...], ...]
    bits: Optional[int] = None
    rotate: bool = False
    rotation_seed: int = 0
    count_under_clip: bool = False

    def __post_init__(self) -> None:
        for name in ("clip_norm", "max_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {name}={value}")
        if self.num_clients < 1:
            raise ValueError(f"num_clients must be at least 1, got num_clients={self.num_clients}")
        if self.dim < 1:
            raise ValueError(f"shapes must hold at least one weight, got shapes={self.shapes}")
        if self.bits_used < 2 or self.bits_used + self._headroom_bits > _MODULUS_BITS:
            raise ValueError(
                f"bits must lie in 2..{_MODULUS_BITS - self._headroom_bits} so that the sums of "
                f"num_clients={self.num_clients} stay below 2**{_MODULUS_BITS}, got bits={self.bits_used}"
            )

    @property
    def _headroom_bits(self) -> int:
        return (self.num_clients - 1).bit_length()  # ceil(log2(num_clients))

    @property
    def bits_used(self) -> int:
        """The bits of a coordinate, sign included."""
        return _MODULUS_BITS - self._headroom_bits if self.bits is None else self.bits

    @property
    def dim(self) -> int:
        """The number of weights in the model."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def num_slots(self) -> int:
        """The length of a vector."""
        return self.dim + (2 if self.count_under_clip else 1)

    @property
    def step(self) -> float:
        """The width of the grid in units of the update, for a client of weight max_weight."""
        return self._coordinate_range / self._top

    @property
    def _top(self) -> float:
        return ((1 << (self.bits_used - 1)) - 1) * _ROUNDING_SLACK

    @property
    def _coordinate_range(self) -> float:
        """The largest coordinate that the grid can hold."""
        if not self.rotate:
            return self.clip_norm
        # A rotated coordinate is a sum of independent signs: sub-Gaussian with variance <= clip_norm**2 /
        # block. Two sides and dim coordinates: 2 dim exp(-t**2 / 2) <= 2**-40.
        tail = math.sqrt(2.0 * (math.log(2.0 * self.dim) + _SATURATION_BITS * math.log(2.0)))
        return self.clip_norm * min(1.0, tail / math.sqrt(_hadamard_block(self.dim)))

    @property
    def _weight_scale(self) -> float:
        """Steps of the weight slot in a unit of weight: a power of two, so that counts stay exact if they
        fit."""
        return 2.0 ** math.floor(math.log2(((1 << self.bits_used) - 1) / self.max_weight))

    def encode(self, delta: Sequence[NDArray[np.float32]], weight: float, rng: np.random.Generator) -> Vector:
        """One client's vector, uint32 [dim + 1] (or [dim + 2] with count_under_clip).

        Args:
          delta: float32 tensors of the encoder's shapes.
          weight: in 0..max_weight.
          rng: the rounding's; not a source of secrets.

        Raises:
          NonFiniteUpdate: the delta holds a NaN or an infinity.
          ValueError: a shape differs, or the weight is out of range.
        """
        if not 0.0 <= weight <= self.max_weight:  # also refuses NaN
            raise ValueError(f"weight must lie in 0..{self.max_weight}, got weight={weight}")
        got = tuple(np.shape(tensor) for tensor in delta)
        if got != self.shapes:
            raise ValueError(f"delta must have shapes {self.shapes}, got shapes {got}")
        flat = np.empty(self.dim, np.float32)
        np.concatenate([np.ravel(tensor) for tensor in delta], out=flat)
        norm = _l2_norm(flat)
        if not math.isfinite(norm):
            raise NonFiniteUpdate("an update holds a NaN or an infinity: lower the client learning rate")
        clip = self.clip_norm / norm if norm > self.clip_norm else 1.0
        if self.rotate:
            # Clipped first: the float32 sums of a huge finite update would overflow, and saturate every coordinate.
            if clip < 1.0:
                flat = (flat.astype(np.float64) * clip).astype(np.float32)  # the factor may be subnormal in float32
                clip = 1.0
            _rotate(flat, self.rotation_seed)

        vector = np.empty(self.num_slots, np.uint32)
        scale = clip * (weight / self.max_weight) / self.step
        limit = (1 << (self.bits_used - 1)) - 1 if self.rotate else None
        _round_stochastically(flat, scale, limit, rng, out=vector[: self.dim].view(np.int32))
        if self.count_under_clip:
            vector[self.dim] = norm <= self.clip_norm
        vector[-1] = math.floor(weight * self._weight_scale + rng.random())
        return vector

    def decode(self, total: Vector, num_summed: int) -> tuple[Weights, float]:
        """The weighted mean sum(w_i * delta_i) / sum(w_i) in the model's shapes, and sum(w_i).

        Args:
          total: uint32 [dim + 1], the sum modulo 2**32 of num_summed vectors.
          num_summed: how many; at most num_clients.

        Raises:
          ValueError: num_summed is out of range, the length is wrong, or the weights sum to nothing.
        """
        self._check_total(total, num_summed)
        weight_sum = float(total[-1]) / self._weight_scale
        if weight_sum <= 0.0:
            raise ValueError(f"the sum of {num_summed} weights must be positive, got weight_sum={weight_sum}")
        return self.mean(total[: self.dim].view(np.int32), weight_sum), weight_sum

    def mean(self, coordinates: NDArray[Any], weight_sum: float) -> Weights:
        """A sum of coordinates, in grid steps [dim], over a weight_sum of one's choice, in the model's shapes.

        A privacy mechanism adds its noise to the coordinates, and divides by a number that tells nothing of the data.
        """
        flat = coordinates * (self.step * self.max_weight / weight_sum)  # float64
        if self.rotate:
            _unrotate(flat, self.rotation_seed)
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        pieces = np.split(flat.astype(np.float32), ends[:-1])
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, self.shapes))

    @property
    def l2_bound(self) -> float:
        """The largest L2 norm, in grid steps, of the coordinates of one vector of weight max_weight.

        Rounding moves each of the dim coordinates by less than a step, so it adds less than sqrt(dim); float32
        scales them with a relative error below 2**-20.

        Source: Kairouz, Liu, Steinke 2021, https://arxiv.org/abs/2102.06387, section 4.1, without its conditional
        rounding: at 20 bits and more the bound that always holds costs next to nothing.

        >>> Encoder(clip_norm=1.0, num_clients=16, max_weight=1, shapes=((100, 100),)).l2_bound / (2**27 - 1)  # 28 bits
        1.0000007...
        """
        return self.clip_norm / self.step * (1.0 + 2.0**-20) + math.sqrt(self.dim)

    def share_under_clip(self, total: Vector, num_summed: int) -> float:
        """The share of the summed clients whose update was not longer than clip_norm, in 0..1.

        Raises:
          ValueError: the encoder has no such slot, or `total` does not fit.
        """
        if not self.count_under_clip:
            raise ValueError("share_under_clip needs count_under_clip=True, got count_under_clip=False")
        self._check_total(total, num_summed)
        return float(total[self.dim]) / num_summed

    def _check_total(self, total: Vector, num_summed: int) -> None:
        if not 1 <= num_summed <= self.num_clients:
            raise ValueError(f"num_summed must lie in 1..{self.num_clients}, got num_summed={num_summed}")
        if total.shape != (self.num_slots,) or total.dtype != np.uint32:
            got = f"{total.dtype} {list(total.shape)}"
            raise ValueError(f"total must be uint32 [{self.num_slots}], got {got}")


@dataclass(frozen=True)
class AdaptiveClip:
    """A clip norm that follows a quantile of the clients' update norms; `after` returns the next round's.

    It needs from a round only the share of clients at or under the clip norm: a secure sum of bits, to which
    a privacy mechanism may add noise.

    Source: Andrew, Thakkar, McMahan, Ramaswamy 2021, https://arxiv.org/abs/1905.03871, section 2.1
    (geometric update).

    >>> AdaptiveClip(clip_norm=1.0).after(share_under_clip=1.0).clip_norm  # all were short: exp(-0.2 * 0.5)
    0.9048374180359595
    """

    clip_norm: float
    target_quantile: float = 0.5
    learning_rate: float = 0.2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ValueError(f"clip_norm must be positive and finite, got clip_norm={self.clip_norm}")
        if not 0.0 <= self.target_quantile <= 1.0:
            raise ValueError(f"target_quantile must lie in 0..1, got target_quantile={self.target_quantile}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise ValueError(f"learning_rate must be 0 or more, got learning_rate={self.learning_rate}")

    def after(self, share_under_clip: float) -> AdaptiveClip:
        """The state after a round; with noise the share may lie a little outside 0..1."""
        if not math.isfinite(share_under_clip):
            raise ValueError(f"share_under_clip must be finite, got share_under_clip={share_under_clip}")
        exponent = -self.learning_rate * (share_under_clip - self.target_quantile)
        return replace(self, clip_norm=self.clip_norm * math.exp(exponent))


def _l2_norm(flat: NDArray[np.float32]) -> float:
    """The L2 norm, summed in float64: a float32 sum drifts over a million terms and can overflow."""
    squares = 0.0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        squares += float(np.dot(block, block))
    return math.sqrt(squares) if math.isfinite(squares) else math.inf


def _round_stochastically(
    flat: NDArray[np.float32],
    scale: float,
    limit: Optional[int],
    rng: np.random.Generator,
    out: NDArray[np.int32],
) -> None:
    """Writes scale * flat to the int32 `out`, rounded up with the probability of the fraction, else down.

    The fraction is taken before the random number is compared, never added: in float32 a sum of a large
    coordinate and a random number would round, and so be biased.
    """
    factor = np.float32(scale)
    uniform = np.empty(_BLOCK, np.float32)
    floor = np.empty(_BLOCK, np.float32)
    for start in range(0, flat.size, _BLOCK):
        x = flat[start : start + _BLOCK]
        u, whole, rounded = uniform[: x.size], floor[: x.size], out[start : start + _BLOCK]
        np.multiply(x, factor, out=x)
        if limit is not None:
            np.clip(x, -limit * _ROUNDING_SLACK, limit * _ROUNDING_SLACK, out=x)
        np.floor(x, out=whole)
        np.subtract(x, whole, out=x)
        rng.random(out=u, dtype=np.float32)
        np.copyto(rounded, whole, casting="unsafe")
        np.add(rounded, np.less(u, x), out=rounded)


def _hadamard_block(dim: int) -> int:
    """The largest power of two that is at most dim."""
    return 1 << (dim.bit_length() - 1)


def _rotate(flat: NDArray, seed: int) -> None:
    """Rotates in place: signs and a Hadamard transform of the first block, then of the last block.

    The two blocks overlap and together cover the vector, so that any length is rotated without padding it to
    a power of two: the vector that travels does not grow.
    """
    block = _hadamard_block(flat.size)
    for signs, part in zip(_signs(flat.size, seed), (flat[:block], flat[-block:])):
        part *= signs
        _hadamard(part)


def _unrotate(flat: NDArray, seed: int) -> None:
    """Undoes `_rotate` in place."""
    block = _hadamard_block(flat.size)
    first, last = _signs(flat.size, seed)
    for signs, part in ((last, flat[-block:]), (first, flat[:block])):
        _hadamard(part)
        part *= signs


def _signs(dim: int, seed: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Two vectors of random signs, int8 [block]."""
    block = _hadamard_block(dim)
    bits = np.unpackbits(np.frombuffer(np.random.default_rng(seed).bytes(2 * (-(-block // 8))), np.uint8))
    signs = (2 * bits.astype(np.int8) - 1).reshape(2, -1)
    return signs[0, :block], signs[1, :block]


def _hadamard(part: NDArray) -> None:
    """The orthonormal Walsh-Hadamard transform, in place; the length is a power of two.

    A factor of 64 at a time is one small matrix product, much faster in numpy than six passes of sums and
    differences.
    """
    stride = 1
    while stride < part.size:
        radix = min(64, part.size // stride)
        matrix = np.ones((1, 1), part.dtype)
        while len(matrix) < radix:
            matrix = np.block([[matrix, matrix], [matrix, -matrix]])
        matrix /= math.sqrt(radix)
        if stride == 1:
            part[:] = (part.reshape(-1, radix) @ matrix).ravel()
        else:
            part[:] = np.matmul(matrix, part.reshape(-1, radix, stride)).ravel()
        stride *= radix
