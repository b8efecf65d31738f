"""What a bundle says of a network of somebody's own, so that nobody needs its code to run the bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Optional

import msgspec

from edge.errors import BundleError
from models.architectures import Architecture, Shape
from models.own_network import describe

_MAX_STATE = 1 << 24  # numbers that a key stroke hands on


class OwnEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of manifest.json that a built-in kind has no need of.

    Attributes:
      state: {name: shape} of what a key stroke hands to the next one.
      embedding, output, output_bias: the weight that has the role, if one has it.
    """

    state: Mapping[str, tuple[Annotated[int, msgspec.Meta(ge=1, le=_MAX_STATE)], ...]]
    embedding: Optional[str] = None
    output: Optional[str] = None
    output_bias: Optional[str] = None

    def row(self, kind: str, numbers: tuple[int, int, int], shapes: Mapping[str, Shape]) -> Architecture:
        """Returns what is known of the network.

        Args:
          kind: of the network.
          numbers: V, D and U.
          shapes: of its weights.

        Raises:
          BundleError: it is described by what can't be.
        """
        roles = {"embedding": self.embedding, "output": self.output, "output_bias": self.output_bias}
        are_shapes = all(size >= 1 for shape in shapes.values() for size in shape)
        state_size = sum(math.prod(shape) for shape in self.state.values())
        if not are_shapes or state_size > _MAX_STATE or not {*roles.values()} <= {*shapes, None}:
            raise BundleError("manifest.json describes weights or a state that can't be: do not use this bundle")
        return describe(kind, numbers, shapes, self.state, roles)
