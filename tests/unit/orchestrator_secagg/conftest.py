"""What a client refuses does not depend on who does its checks."""

from __future__ import annotations

import pytest

from orchestrator.secagg import keys, simulate


@pytest.fixture(params=["its own", "those of a simulation"])
def checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's checks: its own, or shared with the other clients, as in a simulation."""
    if request.param != "its own":
        shared = simulate._SharedOperations(num_threads=2)
        monkeypatch.setattr(keys, "Operations", lambda: shared)
