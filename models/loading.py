"""Loads what is large, as TensorFlow, without Python's looks for garbage, which take a third of the import's time."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

TENSORFLOW, TFF = "tensorflow", "tensorflow_federated"


@contextlib.contextmanager
def loading(module: str) -> Iterator[None]:
    """Opens a context to import a large module in: the collector of reference cycles rests there.

    Afterwards it never looks at what there is by then, some million objects that stay as long as the process. What was
    garbage before is collected first. Where the module is there already, or the collector is off, it does nothing.

    Args:
      module: its name.
    """
    if module in sys.modules or not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
