"""The C library's client of the protocol, under sanitizers."""

from __future__ import annotations

import pytest
from c_peer import CPeer


@pytest.fixture(scope="module")
def peer():
    with CPeer() as own:
        yield own
