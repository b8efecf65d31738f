"""A round of the encrypted sum."""

from __future__ import annotations

import pytest
from encrypted_round import Round, open_round


@pytest.fixture
def round_() -> Round:
    return open_round()
