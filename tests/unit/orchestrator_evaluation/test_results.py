"""What an evaluation says of the best n-gram, and an older one that has the trigram alone."""

from __future__ import annotations

import msgspec
from reported_run import evaluation, score

from orchestrator.evaluation.results import Evaluation


def read(**changes):
    return msgspec.json.decode(msgspec.json.encode(evaluation(**changes)), type=Evaluation)


def test_an_evaluation_of_before_compares_with_the_trigram():
    old = read()
    assert list(old.ngrams) == ["unigram", "bigram", "trigram"]
    assert list(old.scores) == ["model", "mixed", "trigram", "bigram", "unigram"]
    assert old.labels["mixed"] == "mixed with the trigram"
    assert old.labels["trigram"] == "trigram, pooled text"
    assert old.best == old.trigram
    assert (old.model.lead, old.model.lead_interval) == (-0.0123, (-0.02, -0.005))


def test_an_evaluation_compares_with_its_best_n_gram():
    compared = {"top1_minus_trigram": -0.0123, "top1_minus_trigram_interval": None}
    to_best = {"top1_minus_best": -0.022, "top1_minus_best_interval": [-0.03, -0.01]}
    new = read(
        model=score(0.1817, **compared, **to_best),
        modified_trigram=score(0.1951),
        four_gram=score(0.2037),
        five_gram=score(0.2036),
        best_ngram="four_gram",
    )
    assert list(new.scores)[2:] == ["five_gram", "four_gram", "modified_trigram", "trigram", "bigram", "unigram"]
    assert new.best.top1 == 0.2037
    assert new.labels["mixed"] == "mixed with the modified 4-gram"
    assert (new.model.lead, new.model.lead_interval) == (-0.022, (-0.03, -0.01))
    assert new.mixed.lead == new.mixed.top1_minus_trigram  # of the fixture, which is of before


def test_a_private_n_gram_stands_beside_the_model():
    private = {
        "epsilon": 10.0, "delta": 7.3e-4, "ngram": score(0.1237), "mixed": score(0.128), "model_weight": 0.5,
        "model_minus_ngram": -0.005, "model_minus_ngram_interval": [-0.0075, -0.0028],
    }  # fmt: skip
    new = read(private_ngram=private)
    assert list(new.scores)[:4] == ["model", "private_ngram", "private_mixed", "mixed"]
    assert list(new.private_scores) == ["model", "private_ngram", "private_mixed"]
    assert new.scores["private_mixed"].top1 == 0.128
    assert set(new.scores) <= set(new.labels)
    assert list(read().private_scores) == ["model"]
