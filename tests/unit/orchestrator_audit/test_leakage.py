"""The audit of a small run: its bounds and estimates, and what it says where there is nothing to measure."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from models.corpus import ClientId
from models.weights import ModelSize
from orchestrator.audit.leakage import audit_run, phrase_losses, summarise_exposures
from orchestrator.audit.leakage_results import Exposed, Stated
from orchestrator.cli.audit_tables import print_audit
from orchestrator.errors import RunFolderError
from orchestrator.privacy.ledger import Ledger, LedgerHead
from orchestrator.run.planted import Phrase, planted_phrases
from orchestrator.run.saved import read_run
from orchestrator.run.start_origin import Start


@pytest.mark.slow
def test_an_audit_names_its_bounds_and_estimates(tmp_path, begin_run, capsys):
    folder, data = begin_run(tmp_path / "run", tmp_path / "people.jsonl", 20, **{"audit.phrases": 2})
    # A charge whose round left no report, as one that was abandoned after it.
    ledger = Ledger(folder.path, LedgerHead("central", 2.0, 1.0, 20, 1e-3, 0.0, 1, 1, "-"))
    ledger.charge(1, [ClientId("p0")])
    found = audit_run(read_run(folder), 1.0, lambda text: None)
    assert found.stated.run == ledger.epsilon() > 0
    kinds = [getattr(found, name).kind for name in ("stated", "one_shot", "one_run", "exposure")]
    assert kinds == ["upper bound", "estimate", "lower bound", "estimate"]
    assert 0 <= found.one_run.epsilon <= found.stated.one_round
    assert found.one_shot.epsilon == pytest.approx(found.stated.one_round, rel=0.5)
    # No round was trained: everybody's phrases are as unknown as the others.
    assert found.exposure.by_repeats == {"1": None, "4": None, "16": None}
    assert found.exposure.never_took_part.phrases == found.exposure.never_planted.phrases == 6
    assert 0 < found.exposure.never_planted.mean < 6  # 1.44 on average: they are like the others
    assert not found.exposure.of_copy
    print_audit(found)
    assert "took part in no round" in capsys.readouterr().out

    words = [phrase.words for phrase in planted_phrases(folder.config(), data)]
    weights = folder.load_checkpoint().weights
    losses = phrase_losses(ModelSize.of(weights), weights, words, 20)
    assert losses == pytest.approx(
        [phrase_losses(ModelSize.of(weights), weights, [one], 20)[0] for one in words], rel=1e-5
    )
    assert np.all(losses > 6 * np.log(200))  # five words and the end, each about as likely as any of 404


@pytest.mark.slow
def test_an_audit_without_noise_or_phrases_says_so(tmp_path, begin_run):
    folder, _ = begin_run(tmp_path / "run", tmp_path / "people.jsonl", 10)
    found = audit_run(read_run(folder), None, lambda text: None)
    assert found.stated == Stated(one_round=None, run=None, kind="upper bound")
    assert found.one_run.right == found.one_run.guesses
    assert found.exposure is None
    assert "audit.phrases=8" in found.exposure_reason
    copy, _ = begin_run(tmp_path / "copy", tmp_path / "people.jsonl", 10, **{"audit.phrases": 2})
    of_copy = audit_run(read_run(folder), None, lambda text: None, read_run(copy))
    assert of_copy.exposure.of_copy
    assert of_copy.exposure.never_took_part.phrases == 6
    assert of_copy.exposure.copy_rounds is None
    assert of_copy.one_shot == found.one_shot  # all else is of the run itself
    assert found.one_run.epsilon <= found.summed_scores.epsilon < found.summed_scores.epsilon_if_gaussian


@pytest.mark.slow
def test_a_copy_may_have_ended_after_fewer_rounds_and_says_so(tmp_path, begin_run, capsys):
    text = tmp_path / "people.jsonl"
    run, copy = (
        begin_run(tmp_path / name, text, 10, **settings)[0]
        for name, settings in (("run", {"rounds.count": 5}), ("copy", {"rounds.count": 3, "audit.phrases": 2}))
    )
    run.save_checkpoint(dataclasses.replace(run.load_checkpoint(), round_num=5), keep=2)
    with pytest.raises(RunFolderError, match="number of rounds"):
        audit_run(read_run(run), None, lambda text: None, read_run(copy))  # it is not finished
    copy.save_checkpoint(dataclasses.replace(copy.load_checkpoint(), round_num=3), keep=2)
    found = audit_run(read_run(run), None, lambda text: None, read_run(copy))
    assert (found.exposure.of_copy, found.exposure.copy_rounds) == (True, 3)
    print_audit(found)
    assert "trained for 3 rounds in place of 5" in " ".join(capsys.readouterr().out.split())


def test_exposures_are_those_of_people_who_took_part_and_apart_of_the_others():
    words = np.array([4, 5], np.int32)
    planted = [Phrase(words, ClientId(name), repeats) for name, repeats in (("a", 1), ("b", 1), ("a", 4), ("c", 16))]
    found = summarise_exposures(planted, [1.0, 3.0, 5.0, 2.0], {"a", "b"})
    assert found.by_repeats == {"1": Exposed(phrases=2, mean=2.0, most=3.0), "4": Exposed(1, 5.0, 5.0), "16": None}
    assert found.never_took_part == Exposed(phrases=1, mean=2.0, most=2.0)
    assert found.most_possible == 12.0


def test_only_the_same_training_with_phrases_is_a_copy(tmp_path, begin_run):
    text = tmp_path / "people.jsonl"
    run = read_run(begin_run(tmp_path / "run", text, 10)[0])

    def refusal(name, **settings):
        other = read_run(begin_run(tmp_path / name, text, 10, **settings)[0])
        with pytest.raises(RunFolderError) as refused:
            audit_run(run, None, lambda text: None, other)
        return str(refused.value)

    assert "has no planted phrases: train it with --set audit.phrases=8" in refusal("bare")
    phrases = {"audit.phrases": 2}
    assert "is no copy of" in refusal("seed", **phrases, seed=1)
    assert "is no copy of" in refusal("rate", **phrases, **{"client.learning_rate": 0.5})
    private = {
        "privacy.mechanism": "central",
        "privacy.noise_multiplier": 1.0,
        "privacy.clip_norm": 1.0,
        "client.weighting": "equal",
        "model.start_from_word_counts": False,
    }
    noisy = read_run(begin_run(tmp_path / "noisy", text, 10, **private)[0])
    fewer = read_run(begin_run(tmp_path / "fewer", text, 10, **private, **phrases, **{"rounds.count": 1})[0])
    with pytest.raises(RunFolderError, match="is no copy of"):  # fewer rounds have another noise
        audit_run(noisy, None, lambda text: None, fewer)
    later = begin_run(tmp_path / "later", text, 10, **phrases)[0]
    later.save_checkpoint(dataclasses.replace(later.load_checkpoint(), round_num=1), keep=2)
    with pytest.raises(RunFolderError, match="start or number of rounds"):
        audit_run(run, None, lambda text: None, read_run(later))

    def begun_with(weights, own):
        start = Start("run", "before", 9, "0", weights, 5, 5, ())
        return dataclasses.replace(own, identity=msgspec.structs.replace(own.identity, start=start))

    copy = read_run(begin_run(tmp_path / "copy", text, 10, **phrases)[0])
    for first, second in ((run, begun_with("1" * 64, copy)), (begun_with("2" * 64, run), begun_with("1" * 64, copy))):
        with pytest.raises(RunFolderError, match="has other settings, another text, start or"):
            audit_run(first, None, lambda text: None, second)
