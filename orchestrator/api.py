"""fedkeys from Python: train a run, look at it, bring it onto a phone.

    from orchestrator import api

    texts = {"ann": ["See you at ten!", "ok"], "bob": ["who is there?"], ...}
    run = api.train("runs/first", texts, preset="smoke", settings={"rounds.count": 100})
    print(api.predict(run, "have a good"))
    print(api.evaluate(run).model.top1)
    api.export(run, "bundle")

A run that was trained here is a folder as `fedkeys train` leaves it, so every command works on it. It works in a
notebook, too: the rounds run in threads of their own, beside an event loop that runs already. Workers end with the
thread that started them, so `train`, `evaluate` and `export` are for the main thread.

`train_keras` trains a Keras model on people's arrays; see docs/keras.md.

To add a row of one's own to what a setting can name (a sum, an algorithm, a data source), see docs/extending.md.
"""

# Over 300 lines for its docstrings.
from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import msgspec

from models.errors import CorpusError
from models.files import write_atomically
from models.loading import TENSORFLOW, TFF, loading
from models.own_network import is_own
from models.text_sources import locate
from models.vocabulary import FEDERATED, WordList
from orchestrator.errors import ConfigError
from orchestrator.rounds.build import require_summable
from orchestrator.rounds.types import RoundReport
from orchestrator.run.data import Text, load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.own_code import load_code, read_code, trust_run
from orchestrator.run.saved import Run, read_run
from orchestrator.run.start import check_start
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.types import Setting
from tff_pipelines.worker_process import starting

if TYPE_CHECKING:
    import tensorflow as tf

    from orchestrator.evaluation.results import Evaluation, Prediction
    from orchestrator.release.export import ExportFigures
    from orchestrator.release.keras_export import KerasExportFigures, KerasOptions
    from orchestrator.run.keras_arrays import PeoplesArrays
    from orchestrator.run.keras_results import KerasTraining
    from orchestrator.run.training import Observer, Parts, TrainingResult
    from tff_pipelines.runtime import Runtime

__all__ = ["Run", "Silent", "evaluate", "export", "export_keras", "open_run", "predict", "train", "train_keras"]

Texts = Mapping[str, Sequence[str]]  # {person: their messages, oldest first}
Folder = Union[str, "os.PathLike[str]"]


class Silent:
    """An observer that shows nothing: what `train` takes unless it is given another."""

    def stage(self, text: str) -> None:
        """Is told that something which takes a while begins."""

    def begin(self, first_round: int, num_rounds: int) -> None:
        """Is told that the rounds begin."""

    def round_done(self, report: RoundReport, dev: Optional[Mapping[str, float]]) -> None:
        """Is told that a round is over; `dev` holds the figures of the dev people if the round had an evaluation."""


def train(
    folder: Folder,
    texts: Union[Texts, str, None] = None,
    *,
    preset: Optional[str] = None,
    settings: Optional[Mapping[str, Setting]] = None,
    observer: Optional[Observer] = None,
    parts: Optional[Parts] = None,
    resume: bool = False,
    model: Optional[str] = None,
) -> Run:
    """Trains a run by federated rounds in TFF, and returns it as its folder holds it.

    Args:
      folder: of the run; a free one, or with `resume` that of a run to go on with.
      texts: people's messages, {person: [message, ...]}, oldest first; they are written to FOLDER-texts.jsonl beside
        the run's folder, since evaluation and replay read them again. Or what `fedkeys train --data` takes. None leaves
        it to the settings; with `resume`, to the run.
      preset: a name that `fedkeys config` lists.
      settings: dotted, as {"rounds.count": 20}; they win over the preset.
      observer: is told how it goes; None shows nothing.
      parts: an aggregator, a server optimiser or workers of one's own (orchestrator.run.training.Parts). The folder
        does not remember them: give them again to resume; a replay computes with what the settings name. An
        optimiser steps at the rate of server.learning_rate, whatever rate it was built with.
      resume: go on from the newest checkpoint, to the very weights that the run would have had.
      model: FILE.py:FUNCTION, which builds a network of one's own (docs/models.md). The file runs; so it does each time
        that the run is gone on with.

    Raises:
      OwnNetworkError: the file raises, or its network can't be trained.
      ConfigError: a setting is unknown, of the wrong type, out of range, or contradicts another; the text is a pipe.
      CorpusError: the text can't be read or has too few people.
      RunFolderError: the folder is not free, or holds another run.
      BelowThreshold, PrivacyStop: a rule stopped the training.
    """
    own = RunFolder(Path(folder))
    goes_on = resume and own.exists()
    if not goes_on:
        own.require_free()
    overrides = dict(settings or {})
    if isinstance(texts, str):
        overrides["data.source"] = texts
    elif texts is not None:
        overrides["data.source"] = str(_texts_path(own.path))
    code = None if model is None else read_code(model)
    if code is not None:
        overrides["model.kind"] = code.kind
    kept = own.config_path if goes_on and preset is None else None
    config = read_config(kept, preset, overrides, of_run=kept is not None)
    if code is not None:
        load_code(code, config.data.max_words, (observer or Silent()).stage)
    with contextlib.ExitStack() as stack:
        if texts is not None and not isinstance(texts, str):
            stack.enter_context(_kept_texts(own, texts))  # last: a mistake in the settings leaves no text behind
        train_configured(own, config, observer or Silent(), resume, None if parts is None else (lambda: parts))
    return read_run(RunFolder(Path(folder)))


def train_configured(
    folder: RunFolder,
    config: RunConfig,
    observer: Observer,
    resume: bool,
    parts: Optional[Callable[[], Optional[Parts]]] = None,
) -> TrainingResult:
    """Trains a run whose settings are read: finds its words and its noise first, where the settings ask for that.

    Args:
      folder: a free one, or with `resume` that of a run to go on with.
      config: the run's settings.
      observer: is told how it goes.
      resume: go on from the newest checkpoint, if there is a run.
      parts: gives the parts of one's own, or None; asked once the text is read. Without it the run's workers start
        beside the reading and the imports.

    Raises: as train.
    """
    goes_on = resume and folder.exists()
    if not goes_on:
        folder.require_free()
    require_summable(config)
    if locate(config.data.source)[0].is_fifo():
        raise ConfigError(f"data.source = {config.data.source}: a run reads its text again; save it to a file first")
    words = None
    if goes_on:
        config, words = folder.with_own_vocabulary(config), folder.words(folder.identity())
    if config.data.vocabulary == FEDERATED:
        from orchestrator.vocabulary.measure import find_for_run

        config, words = find_for_run(folder, config, observer.stage)
    with contextlib.ExitStack() as stack:
        places = stack.enter_context(starting(config.runtime.workers)) if parts is None else ()
        config, text = _read_to_train(config, words, observer)
        if not goes_on and (began_with := check_start(config, text.data.vocabulary)):
            observer.stage(began_with)
        if not goes_on and is_own(config.model.kind):
            from orchestrator.run.own_checks import check_own_network

            check_own_network(config, text.data.vocabulary.size, observer.stage)
        observer.stage("loading TensorFlow Federated")
        with loading(TFF):
            from orchestrator.run.training import Parts
            from orchestrator.run.training import train as train_run
            from tff_pipelines.runtime import Runtime
        given = Parts(runtime=stack.enter_context(Runtime(places))) if parts is None else parts() or Parts()
        return train_run(folder, config, text, observer, resume, given)


def _read_to_train(config: RunConfig, words: Optional[WordList], observer: Observer) -> tuple[RunConfig, Text]:
    """Returns the settings, with the noise that the text's people need, and the text."""
    observer.stage("reading the text")
    text = load_client_data(config, words)
    if config.privacy.traits.adds_noise:
        from orchestrator.privacy.calibration import resolve_privacy
        from orchestrator.run.canary_clients import participants

        config = resolve_privacy(config, len(participants(config, text.data)))
        if config.privacy.traits.has_bands:
            from orchestrator.privacy.bands import bands_text

            observer.stage(bands_text(config))
        if config.privacy.traits.has_buffers:
            from orchestrator.privacy.buffers import buffers_text

            observer.stage(buffers_text(config))
        observer.stage("epsilon covers the model; losses, norms and counts of the rounds are yours alone")
    return config, text


def open_run(folder: Folder, trust_model: bool = False) -> Run:
    """Returns the run of a folder.

    Args:
      folder: of the run.
      trust_model: run network.py in the folder, which builds a network of somebody's own; without it, what needs that
        network raises OwnNetworkError.

    Raises:
      OwnNetworkError: network.py is not the file that the run was trained with, or raises.
      RunFolderError: there is no run, or a file is damaged or was changed since the run began.
    """
    if trust_model:
        trust_run(Path(folder), lambda text: None)
    return read_run(RunFolder(Path(folder)))


def predict(run: Run, text: str, count: int = 3) -> tuple[Prediction, ...]:
    """Returns the likeliest words after a text, likeliest first, with their probabilities.

    Raises:
      RunFolderError: the run has no checkpoint, or it is damaged.
    """
    with loading(TENSORFLOW):
        from orchestrator.evaluation.prediction import Predictor
    return Predictor.of_run(run, run.newest.model).next_words(text, count)


def evaluate(run: Run, personalise: bool = False, note: Callable[[str], None] = lambda text: None) -> Evaluation:
    """Returns the run's recall on people whom it never saw, beside the n-gram baselines; the run's folder keeps it.

    Args:
      run: with a checkpoint.
      personalise: also fine-tune for each test person.
      note: is told what begins.

    Raises:
      RunFolderError: there is no checkpoint, or the text is not the one that the run was trained on.
      CorpusError: no test person wrote a word of the vocabulary.
    """
    from orchestrator.evaluation.baseline_scores import baselines_beside

    note("reading the text")
    # All beside the import of TensorFlow:
    with (
        starting(run.config.runtime.workers) as places,
        baselines_beside(run.text.data, run.config.data.max_words) as baselines,
    ):
        with loading(TFF):
            from orchestrator.evaluation.comparison import evaluate_run
        return evaluate_run(run, personalise, note, places, baselines)


def export(run: Run, out: Folder, *, force: bool = False, parity: bool = True) -> ExportFigures:
    """Writes the phone bundle of a run: TFLite models that go on training on a device.

    Args:
      run: with a checkpoint.
      out: the bundle's folder.
      force: replace a bundle that is there.
      parity: prove that the export trains as TFF does; False writes a bundle that is marked as unproven.

    Raises:
      ExportError: the settings have a training step that the export lacks, or the model can't be converted.
      RunFolderError: there is no checkpoint.
    """
    with loading(TENSORFLOW):
        from orchestrator.release.export import ExportOptions, export_run
    return export_run(run, Path(out), ExportOptions(force=force, parity=parity))


def train_keras(
    source: Union[Folder, tf.keras.Model],
    people: PeoplesArrays,
    *,
    rounds: Optional[int] = None,
    clients_per_round: Optional[int] = None,
    sum: Optional[str] = None,
    test: Optional[PeoplesArrays] = None,
    settings: Optional[Mapping[str, Setting]] = None,
    loss: Optional[str] = None,
    trainable: Sequence[str] = (),
    lora_rank: int = 0,
    folder: Optional[Folder] = None,
    resume: bool = False,
    observer: Optional[Observer] = None,
    runtime: Optional[Runtime] = None,
) -> KerasTraining:
    """Trains a Keras model by federated rounds in TFF on people's arrays, and returns what they come to.

    A client takes the step that the exported model takes on a phone; its update is clipped, encoded and summed as that
    of every run, and all sums give the same weights, bit for bit.

    Args:
      source: a file that `fedkeys export --keras` takes, or a compiled model of TensorFlow 2.14's Keras.
      people: who trains: {person: (x, y)}, arrays of one row for each example.
      rounds, clients_per_round, sum: rounds.count, rounds.cohort_size (10, or everybody if they are fewer) and
        aggregation.aggregator ("plain", "secagg", "split" or "encrypted").
      test: who is scored, as `people`; the same names may be in both, with other examples.
      settings: dotted, as {"client.learning_rate": 0.05}; docs/keras.md says which ones such rounds read.
      loss, trainable, lora_rank: as of KerasOptions.
      folder: keeps rounds and checkpoints, and with differential privacy the ledger; None keeps nothing.
      resume: go on with the rounds that the folder holds.
      observer: is told how it goes; None shows nothing.
      runtime: workers of one's own, which stay open.

    Raises:
      ExportError: it is no such model, or holds what can't be exported.
      DeviceDataError: somebody's arrays don't fit the model.
      ConfigError: a setting is unknown, out of range, contradicts another, or has no meaning here.
      RunFolderError: the folder is not free, or its rounds are of another model or other settings.
      BelowThreshold, Diverged, PrivacyStop: a rule stopped the training.
    """
    from orchestrator.run.keras_arrays import load_network, train_on_arrays

    named = {"rounds.count": rounds, "rounds.cohort_size": clients_per_round, "aggregation.aggregator": sum}
    given = {name: value for name, value in named.items() if value is not None}
    twice = set(given) & set(settings or {})
    if twice:
        raise ConfigError(f"{', '.join(sorted(twice))} is given twice, by its argument and in settings: leave one out")
    kept = None if folder is None else RunFolder(Path(folder))
    file = Path(source) if isinstance(source, (str, os.PathLike)) else source
    network, name = load_network(file, loss, tuple(trainable), lora_rank)
    every = {**given, **(settings or {})}
    return train_on_arrays(network, name, people, test or {}, every, observer or Silent(), kept, resume, runtime)


def export_keras(
    source: Union[Folder, KerasTraining], out: Folder, options: Optional[KerasOptions] = None
) -> KerasExportFigures:
    """Writes the phone bundle of a Keras model: a file that trains on a device in builtin ops, and its certificate.

    Args:
      source: a .keras file, an .h5 file or a SavedModel's folder, of TensorFlow 2.14; none of its code runs. Or the
        result of train_keras: devices then begin at its weights, and train what it trained.
      out: the bundle's folder.
      options: how (orchestrator.release.keras_export.KerasOptions); None takes the defaults.

    Raises:
      ExportError: it is no such model, or holds what can't be exported. Nothing is written then.
    """
    from orchestrator.release import keras_export
    from orchestrator.run.keras_results import KerasTraining

    options = options or keras_export.KerasOptions()
    if isinstance(source, KerasTraining):
        return keras_export.export_network(source.network, source.source, Path(out), options)
    return keras_export.export_keras(Path(source), Path(out), options)


def _texts_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-texts.jsonl").absolute()


@contextlib.contextmanager
def _kept_texts(folder: RunFolder, texts: Texts) -> Iterator[None]:
    """Writes a run's texts, and opens a context that removes them again if it ends before the run has begun.

    Raises: as _write_texts.
    """
    path = _texts_path(folder.path)
    is_new = _write_texts(path, texts)
    try:
        yield
    finally:
        if is_new and not folder.exists():
            path.unlink()


def _write_texts(path: Path, texts: Texts) -> bool:
    """Writes the texts as JSON Lines, for their owner's eyes only; a file that holds other texts stays as it is.

    Returns whether the file is new.

    Raises:
      CorpusError: there is no text, a person's messages are one string, or the file holds other texts.
    """
    if not texts:
        raise CorpusError("texts is empty: give {person: [message, ...]}")
    for person, messages in texts.items():
        if isinstance(messages, str):
            raise CorpusError(f"texts[{person!r}] is one string: give a list of messages")
    rows = ({"client_id": person, "text": message} for person, messages in texts.items() for message in messages)
    content = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    if path.exists():
        if path.read_bytes() != content:
            raise CorpusError(f"{path} holds other texts: give the same ones, leave them out, or name another folder")
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content, private=True)
    return True
