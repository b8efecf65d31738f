"""What one client's vector costs under the bindings of SEAL that the package index has: the table of ADR 0004.

    python benchmarks/homomorphic_libraries.py [--slots 1412251] [--repeats 5]

Every road sums the same two vectors of 20-bit integers, from uint32 to bytes and back. Where the
scheme is exact the sum must be, or the benchmark stops. TenSEAL is no dependency of fedkeys: without it its rows are
left out. CPU seconds of this process; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, NamedTuple, Optional

import numpy as np
import seal
from numpy.typing import NDArray

from models.corpus import ClientId
from orchestrator.aggregator import Cohort
from orchestrator.homomorphic.encrypted_sum import EncryptedSum

Values = NDArray[np.uint32]
STEPS = ("encrypt", "parse", "add", "decrypt")


class Road(NamedTuple):
    """A way to sum under encryption with a library alone. `send` is encrypt and serialise, `receive` parse."""

    name: str
    send: Callable[[Values], list[bytes]]
    receive: Callable[[list[bytes]], list]
    add: Callable[[list, list], None]
    decrypt: Callable[[list], NDArray]
    is_exact: bool = True


def batching_road(num_slots: int) -> Road:
    """BFV with a batching prime above 2**32: what tutorials do."""
    degree = 4096
    encryption = seal.EncryptionParameters(seal.scheme_type.bfv)
    encryption.set_poly_modulus_degree(degree)
    encryption.set_coeff_modulus(seal.CoeffModulus.Create(degree, [60]))
    encryption.set_plain_modulus(seal.PlainModulus.Batching(degree, 33))
    context = seal.SEALContext(encryption)
    generator = seal.KeyGenerator(context)
    encryptor = seal.Encryptor(context, generator.create_public_key())
    decryptor = seal.Decryptor(context, generator.secret_key())
    encoder, evaluator = seal.BatchEncoder(context), seal.Evaluator(context)

    def send(values: Values) -> list[bytes]:
        padded = np.zeros(-(-num_slots // degree) * degree, np.int64)
        padded[:num_slots] = values
        return [encryptor.encrypt(encoder.encode(row)).to_string() for row in padded.reshape(-1, degree)]

    def add(total: list, parts: list) -> None:
        for one, other in zip(total, parts):
            evaluator.add_inplace(one, other)

    return Road(
        "seal-python, batching",
        send,
        lambda parts: [context.from_cipher_str(part) for part in parts],
        add,
        lambda total: np.concatenate([encoder.decode(decryptor.decrypt(one)) for one in total])[:num_slots],
    )


def tenseal_roads(num_slots: int) -> Iterator[Road]:
    """TenSEAL's vectors: BFV with the smallest modulus that holds the sums, CKKS with its README's parameters."""
    try:
        import tenseal
    except ImportError:
        return
    bfv = tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        4096,
        plain_modulus=seal.PlainModulus.Batching(4096, 33).value(),
        coeff_mod_bit_sizes=[54, 55],
    )
    ckks = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40, 60])
    ckks.global_scale = 2**40
    for name, context, encrypt, read, is_exact in (
        ("tenseal, BFV", bfv, tenseal.bfv_vector, tenseal.bfv_vector_from, True),
        ("tenseal, CKKS", ckks, tenseal.ckks_vector, tenseal.ckks_vector_from, False),
    ):

        def send(values: Values, context: Any = context, encrypt: Any = encrypt) -> list[bytes]:
            return [encrypt(context, values[i : i + 4096].tolist()).serialize() for i in range(0, num_slots, 4096)]

        def receive(parts: list[bytes], context: Any = context, read: Any = read) -> list:
            return [read(context, part) for part in parts]

        def add(total: list, parts: list) -> None:
            for one, other in zip(total, parts):
                one.add_(other)

        def decrypt(total: list) -> NDArray:
            return np.concatenate([np.array(one.decrypt()) for one in total])

        yield Road(name, send, receive, add, decrypt, is_exact)


class Measured(NamedTuple):
    """CPU seconds of each step in each repeat, for one vector, and the bytes that a client sends."""

    seconds: dict[str, list[float]]
    sent: int


def two_vectors(num_slots: int) -> tuple[Values, Values]:
    """The same two for every road."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**20, num_slots, np.uint32), rng.integers(0, 2**20, num_slots, np.uint32)


def measure_fedkeys(num_slots: int, repeats: int) -> Measured:
    """What EncryptedSum's own bill says; unlike the other rows it signs, hashes and checks what is sent."""
    seconds: dict[str, list[float]] = {step: [] for step in STEPS}
    sent = 0
    cohort = Cohort(1, (ClientId("first"), ClientId("second")), min_survivors=2)
    vectors = two_vectors(num_slots)
    for _ in range(repeats):
        result = EncryptedSum().sum(zip(cohort.members, vectors), cohort, {})
        if not np.array_equal(result.total, vectors[0] + vectors[1]):
            raise SystemExit("fedkeys: the sum is wrong")
        cost = result.cost
        sent = int(cost.per_client["upload"].bytes_up)
        seconds["encrypt"].append(cost.per_client["encrypt"].cpu_s)
        seconds["parse"].append(cost.server["check"].cpu_s / 2)
        seconds["add"].append(cost.server["add"].cpu_s / 2)
        seconds["decrypt"].append(cost.decryptor["decrypt"].cpu_s)
    return Measured(seconds, sent)


def measure(road: Road, num_slots: int, repeats: int) -> Measured:
    """The same for a library's road."""
    seconds: dict[str, list[float]] = {step: [] for step in STEPS}
    first, second = two_vectors(num_slots)
    sent = 0

    def timed(step: str, work: Callable, *args: Any) -> Any:
        started = time.process_time()
        result = work(*args)
        seconds[step].append(time.process_time() - started)
        return result

    for _ in range(repeats):
        total = road.receive(road.send(first))
        parts = timed("encrypt", road.send, second)
        sent = sum(map(len, parts))
        received = timed("parse", road.receive, parts)
        timed("add", road.add, total, received)
        decrypted = timed("decrypt", road.decrypt, total)
        error = np.abs(decrypted - (first + second).astype(np.float64)).max()
        if road.is_exact and error or error > 1e-3:
            raise SystemExit(f"{road.name}: the sum is off by {error}")
    return Measured(seconds, sent)


def version(package: str) -> Optional[str]:
    """Its installed version, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=1_412_251)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("seal-python", "tenseal", "numpy"))
    print(f"{options.slots} slots, n={options.repeats}: median (p90) CPU ms; {packages}")
    print(f"{platform.machine()}, Python {platform.python_version()}, {seal.__name__} on one thread")
    print(f"{'road':28}" + "".join(f"{step:>16}" for step in STEPS) + f"{'upload':>9}")
    rows = [("fedkeys", measure_fedkeys(options.slots, options.repeats))]
    for road in (batching_road(options.slots), *tenseal_roads(options.slots)):
        rows.append((road.name, measure(road, options.slots, options.repeats)))
    for name, (seconds, sent) in rows:
        cells = (f"{1e3 * np.median(s):.1f} ({1e3 * np.quantile(s, 0.9):.1f})" for s in seconds.values())
        print(f"{name:28}" + "".join(f"{cell:>16}" for cell in cells) + f"{sent / (4 * options.slots):8.2f}x")


if __name__ == "__main__":
    main()
