"""What a client's training gives, whatever runs it: TFF, plain TensorFlow, LiteRT or the C client."""

from __future__ import annotations

from typing import TypedDict

from models.weights import Weights


class ClientResult(TypedDict):
    """One client's part of a round. From TFF its numbers are NumPy scalars, and its delta views of one vector."""

    delta: Weights  # the server's weights minus the client's: TFF's sign, a pseudo-gradient
    loss_sum: float  # nats over the client's positions, each at the weights of its step
    num_tokens: int  # real positions trained on, all epochs
    num_examples: int  # sentences, all epochs
    is_finite: bool  # False if a weight went non-finite
