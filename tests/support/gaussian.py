"""What Gaussian noise costs, by an accountant that fedkeys does not use for it."""

from __future__ import annotations

from dp_accounting import pld


def gaussian_epsilon(delta, *noise_multipliers):
    """The epsilon of sums with such noise, one after the other, by dp_accounting's privacy loss distributions."""
    losses = [
        pld.privacy_loss_distribution.from_gaussian_mechanism(m, value_discretization_interval=1e-3)
        for m in noise_multipliers
    ]
    total = losses[0]
    for loss in losses[1:]:
        total = total.compose(loss)
    return total.get_epsilon_for_delta(delta)
