"""Names of tensors in the signatures of a file."""

from __future__ import annotations

import re


def tensor_name(name: str) -> str:
    """Returns a name that a signature may have: letters, digits and underscores, a letter first.

    >>> tensor_name("dense/kernel"), tensor_name("1st")
    ('dense_kernel', 't_1st')
    """
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return plain if plain[:1].isalpha() else f"t_{plain}"
