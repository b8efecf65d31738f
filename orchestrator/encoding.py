"""Encodes updates as integers and decodes their sum: clips, weighs, rounds to a grid, and counts modulo 2**32.

Every aggregator sums what `Encoder.encode` returns, so plain, masked and encrypted sums agree bit for bit. A vector is

    [coordinate_1 .. coordinate_dim, (1 if the update was under the clip norm else 0,) weight]

The slot in parentheses exists with `count_under_clip`; the last slot is always the weight. Coordinates are signed and
stored in two's complement, so a sum of them is read back as int32.

The adaptive clip needs a second secure sum in each round: how many clients were under the clip norm. The count travels
in a slot of the same vector, because a second vector would cost each client a second set of keys and shares.
"""

# Over 300 lines for its docstrings: what each bound rests on stands beside the arithmetic.
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.weights import Weights, flatten, slots_of, unflatten
from orchestrator.aggregator import Vector
from orchestrator.errors import Diverged, ImplausibleSum, OrchestratorError

Number = TypeVar("Number", np.int32, np.int64, np.float32, np.float64)

_MODULUS_BITS = 32
_ROUNDING_SLACK = 1.0 - 2.0**-20  # keeps float32's own rounding of a scaled coordinate inside the grid
_LEAST_CLIP_NORM = 2.0**-96  # of a shorter one, steps of the grid in a unit are beyond float32
_NOISE_SLACK = 10.0  # standard deviations: the noise is longer with probability below exp(-50)
_BLOCK = 1 << 16  # coordinates rounded at a time; the temporaries stay in the cache


class NonFiniteUpdate(OrchestratorError):
    """A client's update holds a NaN or an infinity: local training diverged."""


@dataclass(frozen=True)
class Encoder:
    """Encodes one client's update as uint32 [num_slots] and decodes the sum of up to num_clients of them.

    The grid of a coordinate is `step` wide, about clip_norm / 2**(bits - 1), since one coordinate may hold the whole
    norm. Rounding is stochastic, so the decoded mean is unbiased. Its error in a coordinate is always below
    num_summed * step * max_weight / weight_sum, and has a standard deviation of at most half of that divided by
    sqrt(num_summed); float32 adds a rounding error below 2**-21 of the clip norm.

    Attributes:
      clip_norm: the largest L2 norm over all tensors together; longer updates are scaled down to it.
      num_clients: the most vectors that may be summed.
      max_weight: the largest weight of one client.
      shapes: the shapes of the model's tensors, in order.
      bits: the bits of a coordinate, sign included; None takes all the headroom, 32 - ceil(log2(num_clients)).
      count_under_clip: whether a vector has the slot that AdaptiveClip reads.
      least_weight: the least weight of a client whose training did not diverge; check_sum refuses less.
      frozen: places in `shapes` of tensors that nobody trains: they have no slots, and their mean is zero.

    Raises:
      ValueError: an attribute is out of range, or bits + ceil(log2(num_clients)) > 32.

    Source: stochastic rounding: Suresh et al. 2017, https://arxiv.org/abs/1611.00429, section 2.

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
    count_under_clip: bool = False
    least_weight: float = 0.0
    frozen: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for name in ("clip_norm", "max_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {name}={value}")
        if self.clip_norm < _LEAST_CLIP_NORM:
            raise ValueError(f"clip_norm must be at least {_LEAST_CLIP_NORM:g}, got clip_norm={self.clip_norm}")
        if not 0.0 <= self.least_weight <= self.max_weight:
            raise ValueError(f"least_weight must lie in 0..{self.max_weight}, got least_weight={self.least_weight}")
        if self.num_clients < 1:
            raise ValueError(f"num_clients must be at least 1, got num_clients={self.num_clients}")
        if self.dim < 1:
            raise ValueError(f"shapes must hold a weight that is not frozen, got shapes={self.shapes}")
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
        """The number of weights that are summed: all but the frozen ones."""
        return sum(slots_of(self.shapes, self.frozen))

    @property
    def num_slots(self) -> int:
        """The length of a vector."""
        return self.dim + (2 if self.count_under_clip else 1)

    @property
    def step(self) -> float:
        """The width of the grid in units of the update, for a client of weight max_weight."""
        return self.clip_norm / (((1 << (self.bits_used - 1)) - 1) * _ROUNDING_SLACK)

    @property
    def _weight_scale(self) -> float:
        """The steps of the weight slot in a unit of weight: a power of two, so that counts that fit stay exact."""
        return 2.0 ** math.floor(math.log2(((1 << self.bits_used) - 1) / self.max_weight))

    def encode(
        self,
        delta: Sequence[NDArray[np.float32]],
        weight: float,
        rng: np.random.Generator,
        norm: Optional[float] = None,
    ) -> Vector:
        """Returns one client's vector, uint32 [dim + 1] (or [dim + 2] with count_under_clip).

        Args:
          delta: float32 tensors of the encoder's shapes.
          weight: the client's weight, in 0..max_weight.
          rng: the generator that rounding draws from; not a source of secrets.
          norm: what l2_norm of the delta gives, if the caller has computed it.

        Raises:
          NonFiniteUpdate: the delta holds a NaN or an infinity.
          ValueError: a shape differs, or the weight is out of range.
        """
        if not 0.0 <= weight <= self.max_weight:  # also refuses NaN
            raise ValueError(f"weight must lie in 0..{self.max_weight}, got weight={weight}")
        got = tuple(np.shape(tensor) for tensor in delta)
        if got != self.shapes:
            raise ValueError(f"delta must have shapes {self.shapes}, got shapes {got}")
        flat = flatten(delta, self.frozen)
        if norm is None:
            norm = _norm_of(flat)
        if not math.isfinite(norm):
            raise NonFiniteUpdate("an update holds a NaN or an infinity: lower the client learning rate")
        clip = self.clip_norm / norm if norm > self.clip_norm else 1.0
        vector = np.empty(self.num_slots, np.uint32)
        scale = clip * (weight / self.max_weight) / self.step
        _round_stochastically(flat, scale, rng, out=vector[: self.dim].view(np.int32))
        if self.count_under_clip:
            vector[self.dim] = norm <= self.clip_norm
        vector[-1] = math.floor(weight * self._weight_scale + rng.random())
        return vector

    def decode(self, total: Vector, num_summed: int) -> tuple[Weights, float]:
        """Returns the weighted mean sum(w_i * delta_i) / sum(w_i) in the model's shapes, and sum(w_i).

        Args:
          total: uint32 [num_slots], the sum of num_summed vectors modulo 2**32.
          num_summed: the number of vectors in the sum, in 1..num_clients.

        Raises:
          ImplausibleSum: see check_sum.
          Diverged: all of the summed clients sent zeros with weight 0, as who diverges does.
          ValueError: num_summed is out of range, or the length is wrong.
        """
        self.check_sum(total, num_summed)
        if not total[-1]:
            raise Diverged(f"the training of all {num_summed} clients diverged: lower client.learning_rate")
        weight_sum = float(total[-1]) / self._weight_scale
        return self.mean(total[: self.dim].view(np.int32), weight_sum), weight_sum

    def check_sum(self, total: Vector, num_summed: int, noise_stddev: float = 0.0) -> None:
        """Refuses a sum that num_summed honest vectors can't give, so that the mean is at most clip_norm long.

        A sum hides its vectors, so a vector that no update encodes to shows here or nowhere. An honest sum always
        passes: the bounds hold for the longest updates and the worst rounding.

        Args:
          total: uint32 [num_slots], the sum of num_summed vectors modulo 2**32.
          num_summed: the number of vectors in the sum, in 1..num_clients.
          noise_stddev: in grid steps, of the noise that the sum holds in each coordinate.

        Raises:
          ImplausibleSum: the weights sum to less than least_weight (but not to 0) or to more than num_summed *
            max_weight, the coordinates are longer than updates of these weights, or more clients than there are were
            under the clip norm.
          ValueError: num_summed is out of range, or the length is wrong.
        """
        self._check_total(total, num_summed)
        weight_steps, most_steps = int(total[-1]), num_summed * math.ceil(self.max_weight * self._weight_scale)
        is_below_least = 0 < weight_steps < math.floor(self.least_weight * self._weight_scale)
        if is_below_least or weight_steps > most_steps:
            raise ImplausibleSum(
                f"the weights of {num_summed} clients sum to {weight_steps / self._weight_scale:.6g}, honest ones to 0 "
                f"or {self.least_weight:g} to {num_summed} * {self.max_weight:g}"
            )
        if self.count_under_clip and total[self.dim] > num_summed:
            raise ImplausibleSum(f"{total[self.dim]} of {num_summed} clients are under the clip norm")
        norm = _norm_of(total[: self.dim].view(np.int32))
        longest = noise_stddev * (math.sqrt(self.dim) + _NOISE_SLACK)
        if weight_steps:  # a weight of zero is not rounded, nor are its coordinates
            full = min(weight_steps + num_summed, most_steps) / (self.max_weight * self._weight_scale)
            longest += full * self.clip_norm / self.step * (1.0 + 2.0**-20) + num_summed * math.sqrt(self.dim)
        if norm > longest:
            raise ImplausibleSum(
                f"the sum of {num_summed} updates is {norm * self.step:.3g} long, honest ones of these weights give at "
                f"most {longest * self.step:.3g}"
            )

    def mean(self, coordinates: NDArray[Number], weight_sum: float) -> Weights:
        """Divides a sum of coordinates by a weight_sum that the caller chooses; returns it in the model's shapes.

        A privacy mechanism adds its noise to the coordinates and divides by a number that reveals nothing of the data.

        Args:
          coordinates: [dim], in grid steps.
          weight_sum: the divisor, in units of weight.
        """
        flat = coordinates * (self.step * self.max_weight / weight_sum)  # float64
        return unflatten(flat.astype(np.float32), self.shapes, self.frozen)

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
        """Returns the share of the summed clients whose update was not longer than clip_norm, in 0..1.

        Raises:
          ValueError: the encoder does not count them, or `total` is not of its length.
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


def l2_norm(tensors: Sequence[NDArray[np.float32]]) -> float:
    """Returns the L2 norm over all tensors together; infinity if one holds a NaN or an infinity.

    >>> l2_norm((np.float32([[3.0]]), np.float32([0.0, 4.0])))
    5.0
    """
    return _norm_of(flatten(tensors))


def zeros_like(tensors: Sequence[NDArray[np.float32]]) -> Weights:
    """Returns zeros of the tensors' shapes: the delta that a client sends whose own is not finite."""
    return tuple(np.zeros_like(tensor) for tensor in tensors)


def _norm_of(flat: NDArray[Number]) -> float:
    """The L2 norm, summed in float64: a float32 sum drifts over a million terms and can overflow.

    einsum, since np.dot would hand half of a block to a second BLAS thread and wait for a core that the workers hold.
    """
    squares = 0.0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        squares += float(np.einsum("i,i->", block, block))
    return math.sqrt(squares) if math.isfinite(squares) else math.inf


def _round_stochastically(
    flat: NDArray[np.float32], scale: float, rng: np.random.Generator, out: NDArray[np.int32]
) -> None:
    """Writes scale * flat to the int32 `out`, rounded up with the probability of the fraction, else down.

    The random number is compared with the fraction, not added to the coordinate: a float32 sum would round with a bias.
    """
    factor = np.float32(scale)
    scaled, uniform, floor = (np.empty(_BLOCK, np.float32) for _ in range(3))
    for start in range(0, flat.size, _BLOCK):
        rounded = out[start : start + _BLOCK]
        x, u, whole = (buffer[: rounded.size] for buffer in (scaled, uniform, floor))
        np.multiply(flat[start : start + _BLOCK], factor, out=x)
        np.floor(x, out=whole)
        np.subtract(x, whole, out=x)
        rng.random(out=u, dtype=np.float32)
        np.copyto(rounded, whole, casting="unsafe")
        np.add(rounded, np.less(u, x), out=rounded)
