"""Plans the training of a run without one of its people, and begins the run that forgets them.

The new run has the old one's settings, words and cohorts, less the person. It goes on from the newest kept state before
the first round that the person was in, or from the start, and ends with the weights that a run would have had in which
the person was drawn and never came. Under differential privacy it begins at the start: the noise is drawn anew.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import msgspec

from models.corpus import ClientId
from models.files import write_atomically
from models.forgotten import Forgotten, Gap, forget
from models.vocabulary import WordList
from orchestrator.errors import RunFolderError
from orchestrator.privacy.ledger import LEDGER_FILE, read_ledger, take_over
from orchestrator.rounds.build import model_size
from orchestrator.run import record
from orchestrator.run.data import Text, load_client_data
from orchestrator.run.folder import FOUND_WORDS_FILE, NGRAM_FOLDER, RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.run.lines import read_lines
from orchestrator.run.saved import Run
from orchestrator.run.spent import require_counts_ledger, spent_on_start
from orchestrator.run.start import read_first_weights
from orchestrator.settings.run_config import RunConfig


@dataclass(frozen=True)
class Forgetting:
    """How a run forgets a person.

    Attributes:
      person: their id.
      rounds: those that they were drawn for.
      in_first_weights: their words were counted for the weights before round 1.
      from_round: whose state the new run begins with; 0 is the start.
      config: of the new run.
    """

    person: ClientId
    rounds: tuple[int, ...]
    in_first_weights: bool
    from_round: int
    config: RunConfig


def plan_forgetting(run: Run, person: str, keep: Optional[int]) -> Forgetting:
    """The plan by which a run forgets a person.

    Args:
      run: finished, with its record and its text.
      person: the id of one of the text's people.
      keep: how many checkpoints the new run keeps; None takes the run's number.

    Raises:
      RunFolderError: the person is nobody of the text, or the run's rounds can't be computed again.
    """
    _require_repeatable(run)
    gap = _gap_of(run, person)
    rounds = tuple(line.round_num for line in run.rounds if person in line.selected)
    in_first_weights = gap.trained and run.config.model.counts_words
    adds_noise = run.config.privacy.traits.adds_noise
    if adds_noise:
        read_ledger(run.path)  # what the run has cost is said beside what the new one costs
        require_counts_ledger(run.path / NGRAM_FOLDER)
    before = min(rounds, default=run.config.rounds.count + 1)
    kept = [number for number in run.folder.checkpoints() if number < before]
    from_round = 0 if in_first_weights or adds_noise or not kept else kept[-1]
    data, settings = run.config.data, run.config.rounds
    earlier = Forgotten.parse(data.forgotten) if data.forgotten else None
    places = Forgotten((*earlier.gaps, gap), earlier.num_people) if earlier else Forgotten((gap,), len(_ids(run)))
    config = msgspec.structs.replace(
        run.config,
        data=msgspec.structs.replace(data, forgotten=str(places)),
        rounds=msgspec.structs.replace(settings, keep_checkpoints=keep or settings.keep_checkpoints),
    )
    return Forgetting(ClientId(person), rounds, in_first_weights, from_round, config)


def default_folder(run: Run, person: str) -> Path:
    """Where the run that forgets a person lies unless it is said: beside the run, by the person's pseudonym."""
    pseudonym = record.client_commitment(record.read_salt(run.path), person)
    parent = run.path.parent if run.path.name == run.name else run.path.resolve().parent  # it may be called "."
    return parent / f"{run.name}-without-{pseudonym[:8]}"


def _require_repeatable(run: Run) -> None:
    """Refuses a run whose rounds can't be computed again without a person, in one line."""
    path, last = run.path, len(run.rounds)
    if not run.has_record:
        raise RunFolderError(
            f"{path} has no record of its rounds, as after `fedkeys serve`: train it anew without the person"
        )
    record.check_against_reports(path, run.record, run.rounds)
    if run.config.fleet.kind.has_fleet:
        raise RunFolderError(
            f"{path} was trained under a simulated fleet, whose rounds follow from everybody's phones: train it anew "
            "without the person"
        )
    if run.start is not None and not (run.start.is_public and spent_on_start(run) is None):
        raise RunFolderError(
            f"{path} began with a model that was trained on what people typed ({run.start.name}), and nobody can be "
            "taken out of that here: forget them there, then train this run anew from it"
        )
    elsewhere = next((line for line in run.rounds if line.clients), None)
    if elsewhere is not None:
        raise RunFolderError(
            f"round {elsewhere.round_num} of {path} was of {elsewhere.clients}, which the run does not keep: train it "
            "anew without the person"
        )
    if last < run.config.rounds.count:
        raise RunFolderError(
            f"{path} ended after round {last} of {run.config.rounds.count}: finish it with `fedkeys train --run {path} "
            "--resume`, then forget"
        )


def _ids(run: Run) -> tuple[ClientId, ...]:
    """Everybody's id in the order of ids, people whom the run forgot before included by the names of their gaps."""
    corpus = run.text.corpus
    if not run.config.data.forgotten:
        return tuple(sorted(corpus.clients))
    return forget(corpus, Forgotten.parse(run.config.data.forgotten)).in_order


def _gap_of(run: Run, person: str) -> Gap:
    """The place of a person.

    Raises:
      RunFolderError: they are nobody of the text.
    """
    ids = _ids(run)
    if person not in run.text.corpus.clients:
        raise RunFolderError(
            f"client {person} is nobody of {run.config.data.source}, less whom {run.path} forgot already: name a "
            "client_id of that text"
        )
    return Gap(ids.index(ClientId(person)), person in run.text.data.train)


def begin_forgotten(run: Run, plan: Forgetting, folder: RunFolder) -> Text:
    """Begins the run that forgets a person, unless that was done before; returns the text that it trains on.

    What the person had no part in is copied: the rounds up to `from_round`, their record, the checkpoints.

    Raises:
      RunFolderError: the folder holds something else.
    """
    text = load_client_data(plan.config, WordList(run.vocabulary, run.words))
    identity = build_identity(
        plan.config, text.corpus, run.vocabulary, run.identity.num_weights, text.data.origin, run.start
    )
    if folder.exists():
        if folder.identity() != identity:
            raise RunFolderError(f"{folder.path} already holds another run: name another folder with --out")
        return text
    folder.require_free()
    beside = RunFolder(folder.path.with_name(f".{folder.path.name}.partial"))
    shutil.rmtree(beside.path, ignore_errors=True)  # of a kill
    first = read_first_weights(run.path, run.start, model_size(run.config.model, run.vocabulary.size))
    beside.create(plan.config, run.vocabulary, identity, first)
    # With its mode: it opens the pseudonym in the statement once the old run is deleted.
    shutil.copy(run.path / record.SALT_FILE, beside.path)
    _take_over_costs(run, plan.person, beside)
    if plan.from_round:
        _copy_rounds(run, plan.from_round, beside)
    if folder.path.exists():
        shutil.rmtree(folder.path)  # what a kill of another training left, as require_free found
    os.rename(beside.path, folder.path)
    return text


def _take_over_costs(run: Run, person: ClientId, target: RunFolder) -> None:
    """Copies what words and n-gram of the run have cost the others: it stays spent."""
    if (run.path / FOUND_WORDS_FILE).exists():
        shutil.copy(run.path / FOUND_WORDS_FILE, target.path)
    if (run.path / NGRAM_FOLDER / LEDGER_FILE).exists():
        (target.path / NGRAM_FOLDER).mkdir()
        take_over(run.path / NGRAM_FOLDER, target.path / NGRAM_FOLDER, person)


def _copy_rounds(run: Run, last: int, target: RunFolder) -> None:
    """Copies what the rounds up to `last` left."""
    lines = (raw for line, raw in read_lines(run.folder.rounds_path) if line.round_num <= last)
    write_atomically(target.rounds_path, b"".join(lines), private=True)
    entries = b"".join(msgspec.json.encode(entry) + b"\n" for entry in run.record[: last + 1])
    write_atomically(target.path / record.RECORD_FILE, entries)
    target.checkpoint_path(last).parent.mkdir()
    for number in run.folder.checkpoints():
        if number <= last:
            shutil.copy(run.folder.checkpoint_path(number), target.checkpoint_path(number))
