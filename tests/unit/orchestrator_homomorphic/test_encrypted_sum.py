"""The encrypted sum equals the plain one, bit for bit, at the stated cost."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from encrypted_round import SMALL, both_sums, cohort_of
from hypothesis import given, settings
from hypothesis import strategies as st

from models.corpus import ClientId
from orchestrator.aggregator import DropStage
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.encrypted_sum import EncryptedSum
from orchestrator.homomorphic.errors import (
    DuplicateContribution,
)
from orchestrator.homomorphic.parameters import BfvParameters


@settings(max_examples=60, deadline=None)
@given(
    dim=st.one_of(st.integers(1, 50), st.sampled_from([2047, 2048, 2049, 4096, 4097])),
    num=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
    stages=st.lists(st.sampled_from(list(DropStage)), min_size=5, max_size=5),
)
def test_equals_the_plain_sum_bit_for_bit(dim, num, seed, stages):
    rng = np.random.default_rng(seed)
    extremes = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    vectors = [
        np.where(rng.random(dim) < 0.5, rng.choice(extremes, dim), rng.integers(0, 2**32, dim, np.uint32))
        for _ in range(num)
    ]
    drops = {ClientId(f"c{i}"): stage for i, stage in enumerate(stages) if i > 0}  # one always stays
    encrypted, plain = both_sums(vectors, drops)
    assert encrypted.total.dtype == np.uint32
    np.testing.assert_array_equal(encrypted.total, plain.total)
    assert encrypted.survivors == plain.survivors


def test_wraps_modulo_2_to_the_32_like_twos_complement():
    signed = np.array([[-1, -(2**31), 5, 0], [1, -(2**31), -7, 0], [-3, 1, 1, 0]], np.int32)
    encrypted, _ = both_sums(list(signed.view(np.uint32)))
    assert encrypted.total.view(np.int32).tolist() == [-3, 1, -1, 0]


def test_default_parameters_sum_exactly_too():
    rng = np.random.default_rng(1)
    vectors = [rng.integers(0, 2**32, 5000, np.uint32) for _ in range(3)]
    encrypted, plain = both_sums(vectors, parameters=BfvParameters())
    np.testing.assert_array_equal(encrypted.total, plain.total)


@pytest.mark.slow
def test_a_thousand_clients_sum_exactly():
    rng = np.random.default_rng(4)
    encrypted, plain = both_sums(list(rng.integers(0, 2**32, (1000, 10), np.uint32)), min_survivors=1000)
    np.testing.assert_array_equal(encrypted.total, plain.total)


def test_too_few_survivors_stop_the_round():
    drops = {ClientId("c0"): DropStage.BEFORE_UPLOAD, ClientId("c1"): DropStage.BEFORE_SHARES}
    vectors = [np.ones(3, np.uint32)] * 3
    with pytest.raises(BelowThreshold, match="1 of 3 clients are left, 2 needed"):
        both_sums(vectors, drops, min_survivors=2)
    with pytest.raises(BelowThreshold):
        EncryptedSum(SMALL).sum([], cohort_of(3), {})


def test_a_second_vector_of_one_client_is_refused():
    vector = np.ones(3, np.uint32)
    with pytest.raises(DuplicateContribution):
        EncryptedSum(SMALL).sum([(ClientId("c0"), vector)] * 2, cohort_of(2), {})


def test_the_bill_counts_the_bytes_that_were_sent():
    dim, num = 3000, 3
    encrypted, _ = both_sums([np.ones(dim, np.uint32)] * num)
    cost = encrypted.cost
    body = SMALL.body_bytes(dim)
    assert body < cost.per_client["upload"].bytes_up < body + 256
    assert cost.server["check"].bytes_down == num * cost.per_client["upload"].bytes_up
    assert cost.server["terms"].bytes_up == num * cost.per_client["terms"].bytes_down > num * 28_672
    assert cost.server["forward"].bytes_up == cost.decryptor["decrypt"].bytes_down > body
    assert cost.decryptor["decrypt"].bytes_up == cost.server["forward"].bytes_down == 4 * dim
    for stage in (
        cost.per_client["encrypt"],
        cost.server["check"],
        cost.server["add"],
        cost.decryptor["decrypt"],
    ):
        assert stage.cpu_s > 0


def test_upload_of_a_keyboard_model_is_at_most_4_1_times_the_vector():
    dim = 1_412_251
    assert BfvParameters().body_bytes(dim) + messages.MAX_ENVELOPE_BYTES < 4.1 * 4 * dim


def test_memory_does_not_grow_with_the_cohort():
    dim = 40_000

    def peak(num: int) -> int:
        vectors = ((ClientId(f"c{i}"), np.full(dim, i, np.uint32)) for i in range(num))
        tracemalloc.start()
        EncryptedSum(SMALL).sum(vectors, cohort_of(num), {})
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(2)  # imports and caches
    assert peak(16) - peak(2) < SMALL.body_bytes(dim) / 2  # far less than one upload for 14 more clients
