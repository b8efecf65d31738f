"""Begins a run with another model's weights: model.start names the folder of a run, a phone bundle or a public start.

The start's words get the run's ids by their names. The weights before round 1 are then kept in DIR/start.bin, under a
digest in run.json, so that a resume and a replay need the start's folder no more.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.vocabulary import NUM_SPECIAL, Vocabulary
from models.weights import ModelSize, Weights, weights_from_bytes
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.privacy.ledger import epsilon_spent, read_ledger
from orchestrator.rounds.build import first_weights, model_size
from orchestrator.rounds.round import weights_digest
from orchestrator.run.folder import START_FILE, RunFolder
from orchestrator.run.pretrained import PRETRAINED_FILE, read_pretrained
from orchestrator.run.saved import Run, read_run
from orchestrator.run.spent import Guarantee, spent_on_words
from orchestrator.run.start_origin import BUNDLE, PUBLIC_TEXT, RUN, Start, StartText
from orchestrator.settings.audit import what_is_hidden
from orchestrator.settings.run_config import RunConfig

_RARE = 0.25  # the quantile of the known words' output biases with which an unknown word begins


class FirstWeights(NamedTuple):
    """The weights before round 1, and what they come from."""

    weights: Weights
    start: Start


@dataclass(frozen=True, eq=False)
class _Model:
    """A model that a run may begin with, as its folder holds it."""

    start: Start  # whose last four fields are still open
    size: ModelSize
    weights: Weights
    vocabulary: Vocabulary
    rules: tuple[int, str]  # by which its text was split into words: the tokeniser's version, the segmenter
    hidden: str = ""  # what an audit planted in its training


def check_start(config: RunConfig, vocabulary: Vocabulary) -> Optional[str]:
    """Returns what there is to say of the start that the settings name; None if they name none. Needs no TensorFlow.

    Raises: as build_first_weights.
    """
    return _fitted(config, vocabulary)[0].start.statement if config.model.start else None


def build_first_weights(config: RunConfig, vocabulary: Vocabulary) -> Optional[FirstWeights]:
    """Returns the weights with which a run begins that has a start; None if the settings name none.

    A word that the start does not know gets a fresh row of the embedding, and an output bias as the start's rarer
    words have it.

    Args:
      config: of the run.
      vocabulary: the run's words.

    Raises:
      ConfigError: the place holds no start, or one of another size, of another tokeniser, of none of the words, with
        weights that are not finite, or from an audit's training.
      RunFolderError, BundleError: the start is damaged.
    """
    if not config.model.start:
        return None
    model, own_ids, ids = _fitted(config, vocabulary)
    size = model_size(config.model, vocabulary.size)
    weights = tuple(
        _of_own_words(weight, fresh, own_ids, ids) if name in size.architecture.by_word else weight
        for name, weight, fresh in zip(size.names, model.weights, first_weights(config, size, None))
    )
    return FirstWeights(weights, msgspec.structs.replace(model.start, first_sha256=weights_digest(weights)))


def _of_own_words(
    theirs: NDArray[np.float32], fresh: NDArray[np.float32], own_ids: NDArray[np.int64], ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Returns a weight that has an entry for each word, with the start's entries where it knows the word."""
    own = fresh.copy()
    if theirs.ndim == 1:  # a bias
        own[:] = np.quantile(theirs[ids[ids >= NUM_SPECIAL]], _RARE)
    own[own_ids] = theirs[ids]
    return own


def read_first_weights(path: Path, start: Optional[Start], size: ModelSize) -> Optional[Weights]:
    """Returns the weights before round 1 of the run in folder `path`; None if it has no start.

    Raises:
      RunFolderError: start.bin is missing, damaged or was changed.
    """
    if start is None:
        return None
    path = path / START_FILE
    weights: Weights = ()
    with contextlib.suppress(OSError, ValueError):  # told below
        weights = weights_from_bytes(path.read_bytes(), size)
    if not weights or weights_digest(weights) != start.first_sha256:
        raise RunFolderError(f"{path} does not hold the weights that the run began with: restore it or train anew")
    return weights


def _fitted(config: RunConfig, vocabulary: Vocabulary) -> tuple[_Model, NDArray[np.int64], NDArray[np.int64]]:
    """Returns (the start, ids of the run's words that it knows, its own ids of them), special ones included."""
    model = _open(Path(config.model.start))
    place, size, own = f"model.start = {config.model.start}", model_size(config.model, vocabulary.size), config.model
    if model.hidden:
        raise ConfigError(f"{place}: {model.hidden} Name a model that was trained to be used")
    if not all(np.isfinite(w).all() for w in model.weights):
        raise ConfigError(f"{place}: its weights are not finite: name another round or model")
    if model.rules != (config.data.tokeniser, config.data.segmenter):
        raise ConfigError(
            f"{place}: its words are those of data.tokeniser = {model.rules[0]}, data.segmenter = {model.rules[1]!r}, "
            f"and this run's of {config.data.tokeniser}, {config.data.segmenter!r}: name a model of the same rules"
        )
    has = model.size
    if has.kind != size.kind:
        raise ConfigError(
            f"{place}: it is of model.kind = {has.kind!r}, this run's is {size.kind!r}: set it to the start's"
        )
    if (has.embedding_size, has.num_cells) != (size.embedding_size, size.num_cells):
        raise ConfigError(
            f"{place}: it has {has.num_cells} cells and an embedding of {has.embedding_size}, and model.num_cells = "
            f"{own.num_cells}, model.embedding_size = {own.embedding_size}: set these to the start's"
        )
    known = {word: number for number, word in enumerate(model.vocabulary.words[: has.vocabulary_size])}
    words = vocabulary.words[: size.vocabulary_size]
    pairs = np.array([(number, known[word]) for number, word in enumerate(words) if word in known], np.int64)
    mapped = len(pairs) - NUM_SPECIAL
    if mapped < 1:
        raise ConfigError(f"{place}: it knows none of the run's {len(words) - NUM_SPECIAL:,} words: name another model")
    start = msgspec.structs.replace(model.start, words=len(words) - NUM_SPECIAL, mapped=mapped)
    fitted = _Model(start, model.size, model.weights, model.vocabulary, model.rules)
    return fitted, pairs[:, 0], pairs[:, 1]


def _open(place: Path) -> _Model:
    from edge.bundle.manifest import MANIFEST_FILE

    if RunFolder(place).exists():
        return _of_run(read_run(RunFolder(place)))
    if (place / MANIFEST_FILE).exists():
        return _of_bundle(place)
    if (place / PRETRAINED_FILE).exists():
        return _of_public_text(place)
    raise ConfigError(
        f"model.start = {place}: is no start: name the folder of a run (with run.json), of a bundle (with "
        f"manifest.json) or of `fedkeys pretrain` (with {PRETRAINED_FILE})"
    )


def _of_run(run: Run) -> _Model:
    run.require_rounds()
    state, identity = run.newest, run.identity
    covered = _guarantee(run.path)
    text = StartText(identity.corpus_name, identity.corpus_sha256, None, covered.epsilon, covered.delta)
    texts = (text, *(run.start.texts if run.start else ()))
    start = _unfitted(RUN, run.name, state.round_num, state.model, texts)
    data = run.config.data
    rules = (data.tokeniser, data.segmenter)
    size = run.config.model.size_with(run.vocabulary.size)
    return _Model(start, size, state.model, run.vocabulary, rules, what_is_hidden(run.config.audit))


def _guarantee(path: Path) -> Guarantee:
    """What the model of a run and its word list have cost its people."""
    epsilon, words = epsilon_spent(path), spent_on_words(path)
    if epsilon is None:
        return Guarantee(None, 0.0)
    own = Guarantee(epsilon, read_ledger(path)[0].delta)
    return own + words if words is not None else own


def _of_bundle(place: Path) -> _Model:
    """A bundle does not say which epsilon its training kept: none is taken to hold."""
    from edge.bundle.folder import open_bundle, read_file, read_vocabulary, what_keeps_it_out_of_use
    from edge.clients.litert import TrainableModel
    from edge.export.tflite import TRAIN_FILE

    manifest, _ = open_bundle(place)
    weights = TrainableModel(read_file(place, manifest, TRAIN_FILE), manifest.model.size.names).get_weights()
    if weights_digest(weights) != manifest.run.weights_sha256:
        raise RunFolderError(f"{place / TRAIN_FILE} does not hold the weights that the manifest names: export it again")
    texts = (StartText(manifest.run.corpus_name, manifest.run.corpus_sha256),)
    start = _unfitted(BUNDLE, place.resolve().name, manifest.run.round_num, weights, texts)
    rules, hidden = manifest.text_rules, what_keeps_it_out_of_use(manifest)
    words = read_vocabulary(place, manifest)
    return _Model(start, manifest.model.size, weights, words, (rules.version, rules.segmenter), hidden)


def _of_public_text(place: Path) -> _Model:
    model, vocabulary, weights = read_pretrained(place)
    start = _unfitted(PUBLIC_TEXT, place.resolve().name, 0, weights, model.texts)
    return _Model(start, model.model_size, weights, vocabulary, (model.tokeniser, model.segmenter))


def _unfitted(source: str, name: str, round_num: int, weights: Weights, texts: tuple[StartText, ...]) -> Start:
    return Start(source, name, round_num, weights_digest(weights), first_sha256="", words=0, mapped=0, texts=texts)
