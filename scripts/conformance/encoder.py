"""encoder.json: updates, the draws of their rounding, and the vectors that they encode to."""

from __future__ import annotations

import numpy as np

from conformance.draws import Draws
from models.corpus import ClientId
from orchestrator.encoding import Encoder
from orchestrator.rounds.build import build_encoder
from orchestrator.seeds import Purpose, seed_sequence, simulation_rng
from orchestrator.settings.files import read_config

CASES = {  # name: the encoder's fields, the length of the update, the client's weight
    "short": ({"clip_norm": 30.0, "num_clients": 10, "max_weight": 4000.0}, 0.3, 123.0),
    "clipped": ({"clip_norm": 1.0, "num_clients": 6, "max_weight": 1.0}, 5.0, 1.0),
    "one client": ({"clip_norm": 2.0, "num_clients": 1, "max_weight": 3.0}, 1.0, 2.5),
    "many clients": ({"clip_norm": 30.0, "num_clients": 10_000, "max_weight": 2e6}, 29.9, 1e6),
    "zeros": ({"clip_norm": 1.0, "num_clients": 5, "max_weight": 7.0}, 0.0, 0.0),
}
SHAPES = ((5, 3), (7,), (2, 2))
SEED, ROUND, CLIENT = 2**63 - 3, 12, ClientId("client 3")


def encoder() -> dict[str, object]:
    """Returns the file's content. The draws are those of numpy's PCG64, seeded by the four numbers of each case."""
    entropy = [str(number) for number in seed_sequence(SEED, Purpose.ROUNDING, ROUND, CLIENT).entropy]
    rng = simulation_rng(SEED, Purpose.ROUNDING, ROUND, CLIENT)
    return {
        "draws": {
            "entropy": entropy,
            "client_id": CLIENT,
            "float32": rng.random(7, dtype=np.float32).tolist(),
            "float64": [rng.random() for _ in range(2)],
            "then_float32": rng.random(3, dtype=np.float32).tolist(),
        },
        "shapes": SHAPES,
        "cases": {name: _case(name, *case) for name, case in CASES.items()},
        "runs": [_run(words, **overrides) for words, overrides in RUNS],
    }


def _case(name: str, fields: dict[str, float], length: float, weight: float) -> dict[str, object]:
    raw = np.frombuffer(Draws(f"update {name}").draw(4 * 26), "<u4") / 2**31 - 1.0
    flat = np.float32(raw * length / np.sqrt(np.sum(raw**2)))
    delta = [part.reshape(shape) for part, shape in zip(np.split(flat, [15, 22]), SHAPES)]
    own = Encoder(shapes=SHAPES, **fields)
    vector = own.encode(delta, weight, simulation_rng(SEED, Purpose.ROUNDING, ROUND, CLIENT))
    update = [part.astype("<f4").tobytes().hex() for part in delta]
    return {**fields, "delta": update, "weight": weight, "bits": own.bits_used, "vector": vector.tolist()}


RUNS = [
    (5000, {}),
    (300, {"client.weighting": "equal", "rounds.cohort_size": 100, "client.epochs": 2}),
    (20_000, {"client.weighting": "examples", "aggregation.clip_norm": 0.5}),
]


def _run(num_words: int, **overrides: object) -> dict[str, object]:
    """The encoder that a run's settings name."""
    config = read_config(overrides=overrides)
    model = config.model
    own = build_encoder(config, model.size_with(num_words))
    built = {
        "clip_norm": own.clip_norm,
        "max_weight": own.max_weight,
        "bits": own.bits_used,
        "num_slots": own.num_slots,
    }
    return {"num_words": num_words, "settings": overrides, **built}
