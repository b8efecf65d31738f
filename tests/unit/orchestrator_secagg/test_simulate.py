"""What the clients of a simulation share, and that each is charged as if it had worked alone."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from orchestrator.aggregator import Cohort
from orchestrator.masks import add_masks
from orchestrator.secagg import Policy, keys, simulate
from orchestrator.secagg.client import Client

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


@pytest.mark.parametrize("changed", range(6))
def test_who_was_told_one_thing_else_gets_an_answer_of_its_own(changed: int) -> None:
    """One client checks a signature, and another is told the same but for one field."""
    identity = Ed25519PrivateKey.generate()
    public = identity.public_key().public_bytes_raw()
    told = [keys.sign(identity, b"advertise", SESSION, 3, b"body"), public, b"advertise", SESSION, 3, b"body"]
    another = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    other = [bytes(64), another, b"survivors", bytes([1]) * 32, 4, b""][changed]
    shared = simulate._SharedOperations()
    assert shared.is_signed(*told)
    assert not shared.is_signed(*told[:changed], other, *told[changed + 1 :])
    assert shared.is_signed(*told)


def test_fields_that_join_to_the_same_bytes_are_not_the_same() -> None:
    identity = Ed25519PrivateKey.generate()
    public, good = identity.public_key().public_bytes_raw(), keys.sign(identity, b"ab", SESSION, 3, b"cd")
    shared = simulate._SharedOperations()
    assert shared.is_signed(good, public, b"ab", SESSION, 3, b"cd")
    assert not shared.is_signed(good, public, b"abc", SESSION, 3, b"d")


def test_a_key_that_one_client_agreed_with_is_refused_of_another_in_other_writing() -> None:
    """X25519 reads both as the same key, so that the value that is at hand would fit."""
    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    public = other.public_key().public_bytes_raw()
    again = public[:31] + bytes([public[31] | 0x80])
    assert one.exchange(X25519PublicKey.from_public_bytes(again)) == one.exchange(other.public_key())
    shared = simulate._SharedOperations()
    shared.exchange(one, public)
    for client in (one, other, one):
        for unsound in (again, bytes(32)):
            with pytest.raises(keys.UnsoundKey):
                shared.exchange(client, unsound)


def test_only_a_simulation_shares() -> None:
    """A client that is given nothing does all by itself, and remembers nothing that another could ask for."""
    identities = [Ed25519PrivateKey.generate() for _ in range(2)]
    one, other = (Client(identity, (), Policy(), set()) for identity in identities)
    assert type(one._operations) is type(other._operations) is keys.Operations
    assert vars(one._operations) == {}


def test_threads_that_mask_with_a_client_are_charged_to_it(
    computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_two_threads(vector, masks, num_threads):
        add_masks(vector, masks)
        return 0.25 if num_threads == 2 else 0.0

    monkeypatch.setattr(simulate, "add_masks", on_two_threads)
    members = tuple(f"c{i}" for i in range(5))
    vectors = [(member, np.arange(3, dtype=np.uint32)) for member in members]
    result = simulate.SecAgg(num_threads=2).sum(vectors, Cohort(1, members), {})
    assert result.total.tolist() == [0, 5, 10]
    assert result.cost.per_client["upload"].cpu_s == pytest.approx(0.25)


def test_a_round_charges_every_client_for_what_it_would_compute_alone(computed: list[str]) -> None:
    """Of 5 clients each checks 4 neighbours' keys and 4 consents, and agrees with each of 4 on two values."""
    members = tuple(f"c{i}" for i in range(5))
    vectors = [(member, np.arange(3, dtype=np.uint32)) for member in members]
    result = simulate.SecAgg().sum(vectors, Cohort(1, members), {})
    assert result.total.tolist() == [0, 5, 10]
    costs = result.cost.per_client
    assert costs["shares"].cpu_s == pytest.approx(4 + 2 * 4)
    assert costs["unmask"].cpu_s == pytest.approx(4)
