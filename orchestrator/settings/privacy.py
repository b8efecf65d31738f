"""The settings of differential privacy and of the adaptive clip."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from orchestrator.settings.kinds import MECHANISM_TRAITS, MechanismTraits, kind_of
from orchestrator.settings.noise_shape import NoiseShape, buffers_setting, read_buffers
from orchestrator.settings.types import Count, CountOrNone, NotNegative, Share, one_of, says


class PrivacyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Differential privacy of a person's whole text (user level), and the clip that follows the updates' norms."""

    mechanism: Annotated[
        Annotated[str, one_of(MECHANISM_TRAITS)],
        says(
            "central: the server adds independent noise to each sum. tree, matrix, blt: noise that later rounds partly "
            "take back (DP-FTRL). distributed: the clients add it, inside the secure sum. local: each client adds all "
            "of it."
        ),
    ] = "none"
    clip_norm: Annotated[
        NotNegative,
        says("Limit to the L2 norm of an update, in place of aggregation.clip_norm, if there is a mechanism."),
    ] = 0.0
    noise_multiplier: Annotated[
        NotNegative,
        says("Standard deviation of the noise over privacy.clip_norm; 0 = what privacy.epsilon allows in all rounds."),
    ] = 0.0
    epsilon: Annotated[
        NotNegative, says("The budget: training stops before the round that would exceed it; 0 = no budget.")
    ] = 0.0
    delta: Annotated[
        Annotated[float, Meta(ge=0, lt=1)],
        says("Delta of the budget, at most 1 / training people; 0 = training people to the power -1.1."),
    ] = 0.0
    separation: Annotated[
        CountOrNone,
        says(
            "The fewest rounds from one participation of a person to the next; 0 = as many as the people allow, "
            "training people // rounds.cohort_size."
        ),
    ] = 0
    bands: Annotated[
        CountOrNone,
        says(
            "matrix: rounds over which the noise is correlated; at most the separation. 0 = as many as leave the least "
            "noise within privacy.noise_memory_mib."
        ),
    ] = 0
    buffers: Annotated[
        str,
        says(
            "blt: decay:scale of each buffer, as '0.993:0.144 0.781:0.325'; empty = at most three, those that leave "
            "the least noise for the rounds and the separation."
        ),
    ] = ""
    noise_memory_mib: Annotated[
        Count, says("matrix: MiB of memory that the noise may take, where fedkeys chooses the bands.")
    ] = 2048
    adaptive_clip: Annotated[
        bool,
        says("Let the clip norm follow a quantile of the updates' norms; without a mechanism, too."),
    ] = False
    clip_quantile: Annotated[Share, says("adaptive_clip: share of the clients that should not be clipped.")] = 0.5
    clip_learning_rate: Annotated[
        NotNegative, says("adaptive_clip: how fast the logarithm of the clip norm moves.")
    ] = 0.2
    count_noise: Annotated[
        NotNegative,
        says(
            "adaptive_clip with central: standard deviation of the noise on the count of clients under the clip; "
            "0 = rounds.cohort_size / 20, or 1.6 noise multipliers if that is more."
        ),
    ] = 0.0

    @property
    def traits(self) -> MechanismTraits:
        """What the mechanism promises."""
        return kind_of(MECHANISM_TRAITS, "privacy.mechanism", self.mechanism)

    @property
    def shape(self) -> NoiseShape:
        """What shapes the noise that rounds share."""
        return NoiseShape(self.bands or 1, read_buffers(self.buffers))

    def with_shape(self, shape: NoiseShape) -> PrivacyConfig:
        """Returns these settings with another shape of the noise; buffers that they have already stay as written."""
        buffers = self.buffers if shape.buffers == self.shape.buffers else buffers_setting(shape.buffers)
        return msgspec.structs.replace(self, bands=shape.bands, buffers=buffers)
