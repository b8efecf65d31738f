"""What dp_accounting's events cost: zCDP, and epsilon at a delta. Refuses an event that it does not know.

Everything that fedkeys releases under differential privacy is under Gaussian noise, or under integer noise that costs
what Gaussian noise would in zCDP. So a person's whole cost is that of one Gaussian release: a closed form.
No subsampling is credited here: see docs/privacy.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from dp_accounting import ComposedDpEvent, DpEvent, GaussianDpEvent, NoOpDpEvent, SelfComposedDpEvent
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr

from orchestrator.errors import ConfigError, PrivacyStop


@dataclass(frozen=True)
class Cost:
    """A person's cost.

    Attributes:
      zcdp: rho of zero-concentrated differential privacy.
      is_gaussian: it is exactly that of a Gaussian release, whose epsilon is known exactly; else only rho is known.
    """

    zcdp: float
    is_gaussian: bool = True

    def epsilon(self, delta: float) -> float:
        """Returns the smallest epsilon that is known to hold at delta."""
        if self.zcdp == 0.0:
            return 0.0
        if math.isinf(self.zcdp):
            return math.inf
        return _gaussian_epsilon(self.zcdp, delta) if self.is_gaussian else zcdp_epsilon(self.zcdp, delta)


def cost_of(event: DpEvent, is_gaussian: bool = True) -> Cost:
    """Returns the cost of a Gaussian release, or of a composition of such, also an adaptive one.

    Args:
      event: of dp_accounting; sensitivity is 1, so that a noise multiplier is the noise's standard deviation.
      is_gaussian: False for discrete Gaussian noise: see Cost.

    Raises:
      PrivacyStop: there is no accounting for such an event.

    >>> cost_of(SelfComposedDpEvent(GaussianDpEvent(2.0), 8)).zcdp
    1.0
    """
    return Cost(_zcdp_of(event), is_gaussian)


def _zcdp_of(event: DpEvent) -> float:
    if isinstance(event, NoOpDpEvent):
        return 0.0
    if isinstance(event, GaussianDpEvent):
        return 0.5 / event.noise_multiplier**2 if event.noise_multiplier > 0 else math.inf
    if isinstance(event, SelfComposedDpEvent):
        return event.count * _zcdp_of(event.event) if event.count else 0.0
    if isinstance(event, ComposedDpEvent):
        return sum(map(_zcdp_of, event.events))
    raise PrivacyStop(
        f"the accountant does not know {type(event).__name__}: charge a GaussianDpEvent or a composition of such"
    )


def gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """Returns the exact delta of a Gaussian release of sensitivity 1 at epsilon.

    Source: Balle and Wang 2018, https://arxiv.org/abs/1805.06530, theorem 8.

    >>> round(gaussian_delta(1.0, 1.0), 6)
    0.126937
    """
    mu = 1.0 / noise_multiplier
    first = log_ndtr(mu / 2 - epsilon / mu)
    second = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return float(np.exp(first) * -np.expm1(min(0.0, second - first)))


@lru_cache(maxsize=65536)
def _gaussian_epsilon(zcdp: float, delta: float) -> float:
    """Returns the epsilon at which gaussian_delta is delta."""
    noise_multiplier = math.sqrt(0.5 / zcdp)
    if gaussian_delta(noise_multiplier, 0.0) <= delta:
        return 0.0
    highest = zcdp_epsilon(zcdp, delta) + 1e-6  # never below the exact value
    return float(brentq(lambda e: gaussian_delta(noise_multiplier, e) - delta, 0.0, highest, xtol=1e-10, rtol=1e-12))


@lru_cache(maxsize=65536)
def zcdp_epsilon(zcdp: float, delta: float) -> float:
    """Returns an epsilon that rho-zCDP implies at delta.

    Source: Canonne, Kamath, Steinke 2020, https://arxiv.org/abs/2004.00010, corollary 13, at the best order.

    >>> round(zcdp_epsilon(79 / (2 * 7.0**2), 1e-10), 2)  # Google's published Spanish Gboard model prints 8.90
    8.9
    """

    def at_order(log_excess: float) -> float:
        alpha = 1.0 + math.exp(log_excess)
        return zcdp * alpha + (math.log(1 / delta) - math.log(alpha)) / (alpha - 1) + math.log1p(-1 / alpha)

    best = minimize_scalar(at_order, bounds=(-12.0, 25.0), method="bounded", options={"xatol": 1e-10})
    return max(0.0, float(best.fun))


def noise_for(epsilon: float, delta: float, is_gaussian: bool = True) -> float:
    """Returns the smallest noise multiplier of one release whose epsilon at delta is at most `epsilon`.

    >>> Cost(0.5 / noise_for(2.0, 1e-6) ** 2).epsilon(1e-6) <= 2.0
    True

    Raises:
      ConfigError: no noise multiplier from 1e-4 to 1e8 costs that.
    """

    def excess(log_noise: float) -> float:
        return Cost(0.5 * math.exp(-2 * log_noise), is_gaussian).epsilon(delta) - epsilon

    least, most = math.log(1e-4), math.log(1e8)
    if excess(least) <= 0 or excess(most) >= 0:
        raise ConfigError(
            f"privacy.epsilon = {epsilon:g}: no noise from 1e-4 to 1e8 clip norms costs that; set about 0.1 to 20, or "
            "privacy.mechanism = 'none' for a run without differential privacy"
        )
    noise = math.exp(float(brentq(excess, least, most, xtol=1e-12)))
    return noise * (1.0 + 1e-9)  # on the safe side of the root


def event_to_json(event: DpEvent) -> dict[str, Any]:
    """Returns an event as plain data."""
    if isinstance(event, SelfComposedDpEvent):
        return {"name": "SelfComposedDpEvent", "count": event.count, "event": event_to_json(event.event)}
    if isinstance(event, ComposedDpEvent):
        return {"name": "ComposedDpEvent", "events": [event_to_json(part) for part in event.events]}
    if isinstance(event, GaussianDpEvent):
        return {"name": "GaussianDpEvent", "noise_multiplier": event.noise_multiplier}
    if isinstance(event, NoOpDpEvent):
        return {"name": "NoOpDpEvent"}
    raise PrivacyStop(f"the ledger can't hold {type(event).__name__}: the accountant does not know it")


def event_from_json(data: Any) -> DpEvent:
    """Returns the event that event_to_json took apart.

    Raises:
      PrivacyStop: it is none that the accountant knows.
    """
    name = data.get("name") if isinstance(data, dict) else None
    if name == "SelfComposedDpEvent":
        return SelfComposedDpEvent(event_from_json(data["event"]), data["count"])
    if name == "ComposedDpEvent":
        return ComposedDpEvent([event_from_json(part) for part in data["events"]])
    if name == "GaussianDpEvent":
        return GaussianDpEvent(data["noise_multiplier"])
    if name == "NoOpDpEvent":
        return NoOpDpEvent()
    raise PrivacyStop(f"the ledger holds an event that the accountant does not know: {name!r}")
