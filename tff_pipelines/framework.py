"""TensorFlow Federated without the execution context that its import installs: the rest imports `tff` from here.

That context would start a worker of its own at the first computation, and its destructor raises while Python shuts
down. Computations run in a tff_pipelines.runtime.Worker's context only; outside of one they raise.
"""

from __future__ import annotations

import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.context_stack.set_default_context import set_no_default_context

__all__ = ["tff"]

set_no_default_context()
