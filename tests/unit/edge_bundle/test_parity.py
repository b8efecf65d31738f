"""Parity's arithmetic: distances in units of the last place, and what a certificate lets through."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edge.bundle import parity
from edge.errors import BundleError
from models.weights import ModelSize

SIZE = ModelSize(vocabulary_size=9, embedding_size=2, num_cells=3)


def test_ulp_distance_counts_float32_numbers_in_between():
    a = np.float32([1.0, -1.0, 0.0, 1e-45, 1.0])
    b = np.float32([1.0, -1.0, -0.0, -1e-45, 2.0])
    assert parity.ulp_distance(a, b).tolist() == [0, 0, 0, 2, 2**23]
    assert parity.ulp_distance(b, a).tolist() == [0, 0, 0, 2, 2**23]


def weights_and_delta(offset: float):
    weights = tuple(np.ones(shape, np.float32) for shape in SIZE.shapes)
    delta = [np.zeros(shape, np.float32) for shape in SIZE.shapes]
    delta[1][0, 0] = offset
    return weights, tuple(delta)


def certificate_of(offset: float) -> parity.Certificate:
    weights, delta = weights_and_delta(offset)
    none = tuple(np.zeros_like(d) for d in delta)
    reference = parity.Reference("TFF", none, [2.0, 1.0], 0.0)
    measured = parity.compare("1.0", SIZE.names, weights, delta, [2.0, 1.25], reference)
    return parity.Certificate(
        weights_sha256="0",
        reference="TFF",
        steps=2,
        batch_size=1,
        learning_rate=0.1,
        gate=parity.GATE,
        reference_self_diff=0.0,
        runtimes={"one": measured},
        skipped={},
        int8=parity.Int8Agreement(1, 1.0, 1.0),
    )


def test_compare_finds_the_weight_that_is_off():
    measured = certificate_of(2.0**-20).runtimes["one"]
    assert measured.max_abs_diff == 2.0**-20
    assert {name for name, diff in measured.max_abs_diff_by_tensor.items() if diff} == {"kernel"}
    assert measured.loss_drift == (0.0, 0.25)
    assert measured.max_ulp == 2**-20 / 2**-24  # just below 1 float32 numbers are 2**-24 apart
    assert measured.ulp.p50 == 0


@pytest.mark.parametrize(("offset", "passed"), [(0.0, True), (9e-6, True), (1.1e-5, False), (np.nan, False)])
def test_the_gate(offset, passed):
    assert certificate_of(offset).passed is passed


@pytest.mark.parametrize("order", [("good", "bad"), ("bad", "good")])
def test_every_runtime_must_pass(order):
    measured = {"good": certificate_of(0.0).runtimes["one"], "bad": certificate_of(1.1e-5).runtimes["one"]}
    certificate = msgspec.structs.replace(certificate_of(0.0), runtimes={name: measured[name] for name in order})
    assert not certificate.passed
    assert certificate.max_abs_diff == measured["bad"].max_abs_diff


def test_a_certificate_without_a_runtime_does_not_pass():
    assert not msgspec.structs.replace(certificate_of(0.0), runtimes={}).passed


def test_a_certificate_is_read_back():
    certificate = certificate_of(1e-6)
    assert parity.read_certificate(msgspec.json.encode(certificate)) == certificate
    with pytest.raises(BundleError, match="parity.json is damaged"):
        parity.read_certificate(b'{"steps": 50}')
