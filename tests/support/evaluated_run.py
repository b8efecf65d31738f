"""A run of one round that is built by hand, with its record and its evaluation."""

from __future__ import annotations

import numpy as np

from models.weights import ModelSize

SIZE = ModelSize(6, 2, 3)
WEIGHTS = tuple(np.full(shape, 0.5, np.float32) for shape in SIZE.shapes)
SCORE = {
    "top1": 0.1817, "top3": 0.2817, "loss_nats_per_token": 5.1, "top1_interval": [0.17, 0.19],
    "top1_per_client_mean": 0.18, "top1_worst_tenth_mean": None, "min_positions": 50, "clients_averaged": 12,
    "clients": 12, "positions": 3456, "oov": 384, "oov_rate": 0.1, "top1_of_all_words": 0.16353,
}  # fmt: skip
COMPARED = {**SCORE, "top1_minus_trigram": 0.0, "top1_minus_trigram_interval": None}
EVALUATION = {
    "round_num": 1, "clients": 12, "positions": 3456, "oov_rate": 0.1, "per_person_top1": {}, "examples": [],
    "model": COMPARED, "mixed": {**COMPARED, "model_weight": 0.5}, "trigram": SCORE, "bigram": SCORE, "unigram": SCORE,
}  # fmt: skip
