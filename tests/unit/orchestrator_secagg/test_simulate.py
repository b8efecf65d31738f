"""What the clients of a simulation share, and that each is charged as if it had worked alone."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.aggregator import Cohort
from orchestrator.secagg import keys, simulate

SESSION = bytes(32)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that were really computed; each takes a second of a clock that nothing else moves."""
    done: list[str] = []
    true = {"exchange": keys.exchange, "is_signed": keys.is_signed}
    for name, operation in true.items():

        def counted(*arguments, name=name, operation=operation):
            done.append(name)
            return operation(*arguments)

        monkeypatch.setattr(keys, name, counted)
    monkeypatch.setattr(simulate.time, "thread_time", lambda: float(len(done)))
    return done


def test_a_pair_agrees_once_and_both_are_charged(computed: list[str]) -> None:
    one, other, third = (X25519PrivateKey.generate() for _ in range(3))
    public = [key.public_key().public_bytes_raw() for key in (one, other, third)]
    shared = simulate._SharedOperations()
    value = shared.exchange(one, public[1])
    assert shared.exchange(other, public[0]) == value == one.exchange(other.public_key())
    assert (len(computed), shared.spared_s) == (1, 1.0)
    assert shared.exchange(third, public[0]) != value
    assert (len(computed), shared.spared_s) == (2, 1.0)


def test_a_signature_is_checked_once_and_a_forged_one_stays_forged(computed: list[str]) -> None:
    identity = Ed25519PrivateKey.generate()
    public, good = identity.public_key().public_bytes_raw(), keys.sign(identity, b"advertise", SESSION, 3, b"body")
    shared = simulate._SharedOperations()
    for _ in range(3):
        assert shared.is_signed(good, public, b"advertise", SESSION, 3, b"body")
        assert not shared.is_signed(good, public, b"advertise", SESSION, 3, b"bodz")
    assert (len(computed), shared.spared_s) == (2, 4.0)


def test_a_round_charges_every_client_for_what_it_would_compute_alone(computed: list[str]) -> None:
    """Of 5 clients each checks 4 neighbours' keys and 4 consents, and agrees with each of 4 on two values."""
    members = tuple(f"c{i}" for i in range(5))
    vectors = [(member, np.arange(3, dtype=np.uint32)) for member in members]
    result = simulate.SecAgg().sum(vectors, Cohort(1, members), {})
    assert result.total.tolist() == [0, 5, 10]
    costs = result.cost.per_client
    assert costs["shares"].cpu_s == pytest.approx(4 + 2 * 4)
    assert costs["unmask"].cpu_s == pytest.approx(4)
