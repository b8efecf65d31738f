"""Forgets a person: trains a run without them, measures what that changed, and states it under a signature."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import msgspec
import numpy as np

from edge.bundle.dsse import open_envelope, seal
from edge.bundle.manifest import to_json
from edge.errors import BundleError
from models.client_data import ClientData
from models.corpus import ClientId
from models.files import write_atomically
from models.metrics import ClientSums
from models.weights import ModelSize, Weights
from orchestrator.release.forget_results import (
    FIGURES_FILE,
    PREDICATE_TYPE,
    STATEMENT_FILE,
    Exposure,
    ForgetFigures,
    ForgetPredicate,
    ForgetStatement,
    RunDigests,
    Spent,
    compare_exposure,
)
from orchestrator.release.provenance import STATEMENT_TYPE, WEIGHTS, Digest, Subject
from orchestrator.rounds.evaluation import evaluation_batches, federated_sums
from orchestrator.rounds.round import weights_digest
from orchestrator.run import record
from orchestrator.run.folder import RunFolder
from orchestrator.run.forgetting import Forgetting, begin_forgotten
from orchestrator.run.results import write_figures
from orchestrator.run.saved import Run, read_run
from orchestrator.run.spent import spent_on_ngram, spent_together
from orchestrator.run.training import Observer, Parts, train
from tff_pipelines.evaluation import build_evaluation
from tff_pipelines.runtime import Runtime

_METHOD = (
    "The run was trained anew from the state after round {from_round}, which the person had no part in, with the same "
    "settings, words, seed and cohorts, less the person; their text was left out of everything that was computed."
)
_ANEW = " The noise of differential privacy was drawn anew, and is charged on the new run's own ledger."
_REMAINS = (
    "the run before, with its checkpoints, rounds.jsonl and figures, until somebody deletes its folder",
    "every copy of its weights: bundles, and the models on phones",
    "the person's text, where the text of the run is kept",
    "the word list, which the new run takes over: the person's text was among those that it was found in",
)
_NGRAM = "the n-gram that the run before released, and every copy of it: the person's text is in its noisy sum"


def forget_person(run: Run, plan: Forgetting, out: Path, key: Optional[Path], observer: Observer) -> ForgetFigures:
    """Trains the run that forgets a person, and writes forgotten.json and a statement into its folder.

    A second call with the same arguments goes on where the first was stopped.

    Args:
      run: the one before.
      plan: by which it forgets (orchestrator.run.forgetting).
      out: the new run's folder.
      key: to sign the statement with; None leaves it unsigned.
      observer: is told how the training goes.

    Raises:
      RunFolderError: the folder holds something else.
      OrchestratorError, EdgeError: see training, and the key.
    """
    observer.stage("reading the text")
    text = begin_forgotten(run, plan, RunFolder(out))
    observer.stage("starting the TFF workers")
    with Runtime(run.config.runtime.workers) as runtime:
        folder = RunFolder(out)
        train(folder, folder.config(), text, observer, resume=True, parts=Parts(runtime=runtime))
        after = read_run(RunFolder(out))
        observer.stage("scoring both models on the person's text, and on people who never trained")
        exposure = _measure_exposure(runtime, run, after, plan.person)
    predicate = _predicate(run, after, plan)
    statement = ForgetStatement((Subject(WEIGHTS, Digest(predicate.after.weights_sha256)),), predicate)
    path = out / STATEMENT_FILE
    write_atomically(path, seal(to_json(statement), key), private=True)
    figures = ForgetFigures(str(out), str(path), key is not None, predicate, exposure)
    write_figures(out / FIGURES_FILE, figures, private=True)
    return figures


def _predicate(run: Run, after: Run, plan: Forgetting) -> ForgetPredicate:
    epsilon, anew = None, ""
    if run.config.privacy.traits.adds_noise:
        both = spent_together(run, after)
        epsilon = Spent(spent_together(run).epsilon, spent_together(after).epsilon, both.epsilon, both.delta)
        anew = _ANEW
    return ForgetPredicate(
        person=record.client_commitment(record.read_salt(run.path), plan.person),
        rounds=plan.rounds,
        first_round=min(plan.rounds, default=None),
        in_first_weights=plan.in_first_weights,
        retrained_from=plan.from_round,
        rounds_retrained=len(after.rounds) - plan.from_round,
        before=_digests(run),
        after=_digests(after),
        method=_METHOD.format(from_round=plan.from_round) + anew,
        remains=(*_REMAINS, *([_NGRAM] if spent_on_ngram(run.path) else [])),
        epsilon=epsilon,
    )


def _digests(run: Run) -> RunDigests:
    return RunDigests(
        weights_sha256=weights_digest(run.newest.model),
        config_sha256=run.identity.config_sha256,
        corpus_sha256=run.identity.corpus_sha256,
        record_sha256=run.record[-1].entry_sha256,
    )


def _measure_exposure(runtime: Runtime, run: Run, after: Run, person: ClientId) -> Optional[Exposure]:
    """How far the two models differ on the person's sentences; None if none of these can be scored."""
    config, data = run.config, run.text.data
    own = _sentences(data, person)
    size = ModelSize.of(run.newest.model, config.model.kind)
    evaluation = build_evaluation(size, config.data.max_words, data.vocabulary.size)
    batches = evaluation_batches({person: own, **_strangers(data, person)}, config.data.max_words)

    def sums(weights: Weights) -> ClientSums:
        return federated_sums(runtime, evaluation, weights, batches, config.runtime.clients_per_call)

    return compare_exposure(sums(run.newest.model), sums(after.newest.model), len(own))


def _sentences(data: ClientData, person: ClientId) -> tuple[np.ndarray, ...]:
    """The person's sentences, whatever their role; none if they had too few to train."""
    return next((people[person] for people in (data.train, data.dev, data.test) if person in people), ())


def _strangers(data: ClientData, person: ClientId) -> dict[ClientId, tuple[np.ndarray, ...]]:
    return {other: own for other, own in data.test.items() if other != person}


def check_forgotten(run: Run, public_key: Optional[Path]) -> str:
    """What is known of the signer of a run's statement that it forgot a person, once it is of the run's weights.

    Raises:
      BundleError: the statement is missing, damaged or signed by another, or the run holds other weights.
    """
    path = run.path / STATEMENT_FILE
    payload, signer = open_envelope(path, public_key)
    try:
        statement = msgspec.json.decode(payload, type=ForgetStatement)
        if (statement.kind, statement.predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise ValueError("another type of statement")
    except ValueError as error:  # msgspec's are, too
        raise BundleError(f"{path} holds no statement that can be read ({error}): write it again") from None
    if statement.predicate.after != _digests(run):
        raise BundleError(f"{run.path} is not the run that {STATEMENT_FILE} names: it was changed since")
    return signer
