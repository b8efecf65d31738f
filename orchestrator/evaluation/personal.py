"""A model of one's own: fine-tuned on each person's earlier text, scored on their later text; who gains, who loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from models.batches import build_batches
from models.client_data import ClientData, Sentences
from models.corpus import ClientId, Corpus
from models.metrics import ClientSums, difference_interval, summarise
from models.weights import ModelSize, Weights
from orchestrator.evaluation.own_words import HELD_OUT_SHARE, Cache, split_text
from orchestrator.evaluation.results import CacheScore, Personalised
from orchestrator.rounds.evaluation import client_sums
from orchestrator.seeds import Purpose, simulation_rng
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import count_text
from tff_pipelines.evaluation import build_personalisation
from tff_pipelines.runtime import Runtime

MIN_SENTENCES = 20
_SCHEDULES = ((0.1, 1), (0.3, 1), (0.3, 3), (1.0, 1))  # learning rate, epochs
_STEPS = (0.5, 1.0)  # how far from the shared model towards the fine-tuned one


@dataclass(frozen=True)
class Setting:
    """How to fine-tune."""

    learning_rate: float
    epochs: int
    step: float

    def __str__(self) -> str:
        epochs = count_text(self.epochs, "epoch")
        return f"learning rate {self.learning_rate:g}, {epochs}, {self.step:.0%} of the way from the shared model"


def personal_figures(
    runtime: Runtime,
    config: RunConfig,
    corpus: Corpus,
    data: ClientData,
    weights: Weights,
    cache: Cache,
    note: Callable[[str], None],
) -> Optional[Personalised]:
    """Returns the figures of `fedkeys evaluate --personalise`; None if texts are short.

    Its setting is chosen on the dev people.

    A person's text is capped as a training person's is: all that a device could train on.
    """
    cap = config.data.max_sentences_train
    texts = {name: _long_texts(corpus, data, cap, people) for name, people in (("dev", data.dev), ("test", data.test))}
    if not texts["dev"] or not texts["test"]:
        note(f"no fine-tuning: no dev or no test person has {MIN_SENTENCES} sentences")
        return None
    tuner = _Tuner(runtime, config, data, weights)
    note(f"choosing how to fine-tune on {count_text(len(texts['dev']), 'dev person')}")
    gains: dict[Setting, float] = {}
    for learning_rate, epochs in _SCHEDULES:
        before, after = tuner.sums(texts["dev"], learning_rate, epochs)
        for step, sums in zip(_STEPS, after):
            # A setting at which somebody's model diverges is out, whatever it scores.
            diverged = not np.isfinite(sums.nll_sum_nats).all()
            gain = -np.inf if diverged else float(sums.hits1.sum() - before.hits1.sum())
            gains[Setting(learning_rate, epochs, step)] = gain
    setting = max(gains, key=lambda s: gains[s])
    note(f"fine-tuning for {count_text(len(texts['test']), 'test person')}: {setting}")
    before, after = tuner.sums(texts["test"], setting.learning_rate, setting.epochs)
    note("mixing the best n-gram with each person's own earlier words")
    share = cache.best_share(texts["dev"])
    beside = CacheSums(share, cache.sums(texts["test"], share))
    return personal_gains(setting, before, after[_STEPS.index(setting.step)], beside)


def _long_texts(
    corpus: Corpus, data: ClientData, cap: int, people: Mapping[ClientId, Sentences]
) -> dict[ClientId, Sentences]:
    texts = {person: corpus.clients[person].sentences[:cap] for person in people}
    return {
        person: tuple(map(data.vocabulary.encode, own)) for person, own in texts.items() if len(own) >= MIN_SENTENCES
    }


class _Tuner:
    """Fine-tunes and scores in TFF."""

    def __init__(self, runtime: Runtime, config: RunConfig, data: ClientData, weights: Weights):
        self._runtime, self._config, self._weights = runtime, config, weights
        self._size = ModelSize.of(weights, config.model.kind)
        self._computation = build_personalisation(
            self._size, config.data.max_words, data.vocabulary.size, config.client.clip_norm, _STEPS
        )

    def sums(
        self, texts: Mapping[ClientId, Sentences], learning_rate: float, epochs: int
    ) -> tuple[ClientSums, list[ClientSums]]:
        """Returns (sums of the shared model, of each person's own at each step) over the people's later text."""
        values = [self._batches(person, own, epochs) for person, own in texts.items()]
        arguments = (self._weights, np.float32(learning_rate))
        calls = self._runtime.map_clients(self._computation, arguments, values, self._config.runtime.clients_per_call)
        results = list(calls)
        after = [client_sums([r["after"][i] for r in results]) for i in range(len(_STEPS))]
        return client_sums([r["before"] for r in results]), after

    def _batches(self, person: ClientId, sentences: Sequence[np.ndarray], epochs: int) -> dict[str, Any]:
        """Returns the earlier sentences to train on and the later ones to score."""
        earlier, later = split_text(sentences)
        batch_size, time = self._config.client.batch_size, self._config.data.max_words
        history = build_batches(
            earlier,
            batch_size=batch_size,
            time=time,
            vocabulary_size=self._size.vocabulary_size,
            epochs=epochs,
            rng=simulation_rng(self._config.seed, Purpose.BATCHES, 0, person),
        )
        return {"history": history, "held_out": build_batches(later, batch_size=batch_size, time=time)}


class CacheSums(NamedTuple):
    """What the cache scored on the same text: the share of a person's own words in it, and its sums."""

    share: float
    sums: ClientSums


def personal_gains(
    setting: Setting, before: ClientSums, after: ClientSums, cache: Optional[CacheSums] = None
) -> Personalised:
    """Returns what fine-tuning gave, pooled and by person, from the sums before and after; beside a cache, if given."""
    scored = after.positions > 0
    hits = after.hits1 - before.hits1
    others = np.arange(len(hits)) != hits.argmax()  # one person may carry the whole gain
    gains = hits[scored] / after.positions[scored]
    return Personalised(
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        step=setting.step,
        setting=str(setting),
        history_share=1 - HELD_OUT_SHARE,
        clients=int(scored.sum()),
        positions=int(after.positions.sum()),
        before=summarise(before),
        after=summarise(after),
        top1_gain=float(hits.sum() / after.positions.sum()),
        top1_gain_of_others=float(hits[others].sum() / max(1, after.positions[others].sum())),
        top1_gain_interval=difference_interval(after, before) if scored.sum() > 1 else None,
        share_better=float(np.mean(gains > 0)),
        share_worse=float(np.mean(gains < 0)),
        per_person_gain=tuple(gains.tolist()),
        cache=None if cache is None else _beside(cache, after),
    )


def _beside(cache: CacheSums, tuned: ClientSums) -> CacheScore:
    summary = summarise(cache.sums)
    interval = difference_interval(tuned, cache.sums) if summary.clients > 1 else None
    return CacheScore(cache.share, summary, summarise(tuned).top1 - summary.top1, interval)
