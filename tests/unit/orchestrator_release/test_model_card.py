"""The card of a small run that is built here: what it says, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil

import msgspec
import pytest
import yaml
from evaluated_run import EVALUATION, SCORE, WEIGHTS

from orchestrator.audit.attack_results import AttackResult, Named, NoiseResult, Score
from orchestrator.errors import RunFolderError
from orchestrator.fairness.results import FairnessResult, PerClient, Recall, RecallByGroup, write_fairness
from orchestrator.privacy.ledger import Ledger, LedgerHead, epsilon_spent
from orchestrator.release.model_card import write_card
from orchestrator.release.provenance import CARD_FILE
from orchestrator.rounds.round import weights_digest
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import digest_of_what_matters
from orchestrator.run.results import write_figures
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config


def card_of(folder):
    return (folder.path / CARD_FILE).read_text()


def test_the_front_matter_parses_and_holds_the_results(folder):
    assert not write_card(read_run(folder), None).signed
    _, front, text = card_of(folder).split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["language"] == ["en"]
    (result,) = fields["model-index"][0]["results"]
    assert set(result) == {"task", "dataset", "metrics"}
    assert [metric["value"] for metric in result["metrics"]] == [0.1817, 0.2817]
    for heading in ("What it is for", "known bias", "Results", "By group", "Privacy", "Attacks", "Limits"):
        assert heading in text
    assert "no epsilon holds" in text
    assert "18.2 %" in text
    assert "1 people took part" in text
    assert text.count("Not measured") == 3
    assert "ann" not in text.replace("cannot", "").split()


def recall(clients, top1):
    per_client = PerClient(clients=clients, mean=top1, std=0.05, worst_tenth_mean=0.06, jain=0.9)
    return Recall(clients=clients, positions=400, top1=top1, top3=0.3, oov_rate=0.04, per_client=per_client)


def fairness_of(weights_sha256):
    attribute = RecallByGroup(
        about="words typed",
        groups={"few | words": recall(11, 0.25), "many": recall(12, 0.125)},
        hidden_groups=0,
        hidden_clients=0,
        gap=0.125,
        ratio=0.5,
        client_mean_gap=0.1,
        p_value=0.01,
        permutations=99,
    )
    return FairnessResult(
        round_num=1,
        weights_sha256=weights_sha256,
        people="test",
        aggregator="plain",
        min_group_size=10,
        min_positions=20,
        clients=23,
        positions=800,
        top1=0.18,
        top3=0.3,
        oov_rate=0.04,
        per_client=recall(23, 0.18).per_client,
        recall_histogram=(0,) * 100,
        attributes={"activity": attribute},
        participation={},
        not_measured={"time zone": "none is known"},
    )


def attack_that_names(word, **changes):
    """An attack on ten clients after round 1; each AUC's standard error is 0.020."""

    def rules(auc):
        score = Score(precision=1.0, recall=0.5, f1=0.6, best_f1=0.7, auc=auc, auc_sd=0.02 * 10**0.5)
        return {"bias_sign": score, "row_norm": score}

    values = {
        "round_num": 1,
        "sentences": 20,
        "clients": tuple("abcdefghij"),
        "aggregator": "secagg",
        "words": 2,
        "views": {
            "raw": rules(0.99),
            "masked": rules(0.51),
            "encrypted": rules(0.52),
            "sum_2": rules(0.98),
            "sum_10": rules(0.9),
            "sum_100": None,
            "noised": rules(0.501),
        },
        "attribution": {},
        "per_client": {},
        "baselines": {"raw": 0.4},
        "typed_words": {"raw": 1.0},
        "reasons": {"sum_100": "fewer than 100 people train in this run"},
        "baseline_f1": 0.4,
        "target_only": {},
        "target_only_words": None,
        "target_only_readable": None,
        "named": {"raw": (Named(word=word, typed_by="client"),)},
        "noise": NoiseResult(source="example", multiplier=1.0, clip_norm=1.0, clients=10, curve=(), hidden_from=None),
        "rebuilt": {},
        "checks": (),
    }
    return AttackResult(**{**values, **changes})


def attack_table(folder):
    """{what the server has: [AUC of each rule]} as the card has it."""
    lines = card_of(folder).partition("## Attacks")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {name: aucs for name, *aucs in rows[1:]}


def change_settings(folder, **overrides):
    """Gives the run other settings, as if it had begun with them."""
    config = read_config(overrides={"rounds.count": 1, **overrides})
    folder.write_config(config)
    identity = msgspec.structs.replace(folder.identity(), config_sha256=digest_of_what_matters(config))
    (folder.path / "run.json").write_bytes(msgspec.json.encode(identity))


def test_fairness_and_attack_show_if_they_were_measured(folder):
    write_fairness(folder.path, fairness_of(weights_digest(WEIGHTS)))
    write_figures(folder.path / "attack.json", attack_that_names("secretword"))
    write_card(read_run(folder), None)
    card = card_of(folder)
    assert "| activity | few \\| words | 11 | 25.0 % |" in card
    assert "time zone: not measured; none is known" in card
    assert "secretword" not in card
    write_fairness(folder.path, fairness_of("0" * 64))
    write_card(read_run(folder), None)
    assert "Not measured for these weights" in card_of(folder)


def test_the_attacks_table_is_of_this_runs_own_protection(folder):
    write_figures(folder.path / "attack.json", attack_that_names("secretword"))
    write_card(read_run(folder), None)
    masked, summed = (
        ["0.510 ± 0.020", "not measured", "0.510 ± 0.020"],
        ["0.900 ± 0.020", "not measured", "0.900 ± 0.020"],
    )
    assert attack_table(folder) == {"one client's upload, masked": masked, "the sum of 10 clients": summed}
    change_settings(folder, **{"aggregation.aggregator": "plain"})
    write_card(read_run(folder), None)
    assert list(attack_table(folder)) == ["one client's update, in the clear", "the sum of 10 clients"]
    change_settings(folder, **{"aggregation.aggregator": "split"})
    write_card(read_run(folder), None)
    assert list(attack_table(folder)) == ["one client's upload, masked for the split sum", "the sum of 10 clients"]
    change_settings(folder, **{"rounds.cohort_size": 20})
    write_card(read_run(folder), None)
    assert attack_table(folder)["the sum of 20 clients"] == ["not measured"] * 3


def test_a_card_says_that_sums_are_of_groups(folder):
    """The server of such a run sees the sums of ten people each, not one of thirty."""
    write_figures(folder.path / "attack.json", attack_that_names("secretword"))
    change_settings(folder, **{"rounds.cohort_size": 30, "aggregation.groups": 3})
    write_card(read_run(folder), None)
    assert "summed by `secagg`, in 3 groups, each by itself; in the simulation" in card_of(folder)
    assert attack_table(folder)["the sum of 10 clients"] == ["0.900 ± 0.020", "not measured", "0.900 ± 0.020"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"round_num": 7}, "Not measured for these weights: `fedkeys attack"),
        ({"clients": tuple("abcdefghi")}, "9 clients were attacked; under 10 people: not shown."),
    ],
)
def test_an_attack_on_other_weights_or_on_few_people_is_not_shown(folder, changes, said):
    write_figures(folder.path / "attack.json", attack_that_names("secretword", **changes))
    write_card(read_run(folder), None)
    assert said in card_of(folder)
    assert attack_table(folder) == {}


def test_licence_and_date_are_in_the_front_matter(folder):
    os.utime(folder.checkpoint_path(1), (1_700_000_000, 1_700_000_000))
    write_card(read_run(folder), None)
    _, front, text = card_of(folder).split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["license"], fields["date"]) == ("mit", "2023-11-14")
    assert "round 1 of 2023-11-14" in text
    change_settings(folder, **{"data.source": "people.jsonl"})
    write_card(read_run(folder), None)
    assert yaml.safe_load(card_of(folder).split("---\n", 2)[1])["license"] == "unknown"
    assert "name the model's here before you publish it" in card_of(folder)


def test_results_of_nine_test_people_are_not_shown(folder):
    (folder.path / "evaluation.json").write_text(json.dumps({**EVALUATION, "clients": 9}))
    write_card(read_run(folder), None)
    assert "Under 10 people: not shown." in card_of(folder)
    assert "18.2" not in card_of(folder)
    assert yaml.safe_load(card_of(folder).split("---\n", 2)[1])["model-index"] == []


def test_a_run_without_evaluation_gets_no_card(folder):
    (folder.path / "evaluation.json").unlink()
    with pytest.raises(RunFolderError, match="no evaluation.*fedkeys evaluate"):
        write_card(read_run(folder), None)
    (folder.path / "evaluation.json").write_text(json.dumps({**EVALUATION, "round_num": 7}))
    with pytest.raises(RunFolderError, match="is of round 7"):
        write_card(read_run(folder), None)
    assert not (folder.path / CARD_FILE).exists()


def test_a_model_that_was_trained_without_somebody_says_so(folder):
    write_card(read_run(folder), None)
    assert "forgotten" not in (folder.path / CARD_FILE).read_text()
    config = read_config(overrides={"rounds.count": 1, "data.forgotten": "3 (1) of 20"})
    folder.write_config(config)
    identity = msgspec.structs.replace(folder.identity(), config_sha256=digest_of_what_matters(config))
    (folder.path / "run.json").write_bytes(msgspec.json.encode(identity))
    write_card(read_run(folder), None)
    assert "trained anew without 2 people who asked to be forgotten" in (folder.path / CARD_FILE).read_text()


def test_a_model_that_was_trained_to_be_audited_says_so(folder):
    change_settings(
        folder,
        **{
            "audit.canaries": 20,
            "audit.phrases": 1,
            "client.weighting": "equal",
            "model.start_from_word_counts": False,
        },
    )
    write_card(read_run(folder), None)
    card = (folder.path / CARD_FILE).read_text()
    assert (
        "**Trained to be audited, not to be used: 3 secret phrases were planted in the text; 20 canary clients" in card
    )


def test_a_card_with_an_epsilon_leaves_out_what_no_noise_covers(folder, tmp_path):
    """The same run once more, with noise: its card has no figure that comes from training text without noise."""
    write_figures(folder.path / "attack.json", attack_that_names("secretword"))
    write_card(read_run(folder), None)
    assert {"trigram, pooled text", "mixed with the trigram", "0.510 ± 0.020"} <= _found_in(card_of(folder))
    private = with_noise(folder, tmp_path / "private")
    of_training = msgspec.structs.replace(fairness_of(weights_digest(WEIGHTS)), people="train")
    write_fairness(private.path, of_training)
    (private.path / "vocabulary.json").write_text(json.dumps({"epsilon": 8.0, "delta": 1e-6}))
    ngram = {"epsilon": 9.5, "delta": 0.001, "ngram": SCORE, "mixed": SCORE, "model_weight": 0.5}
    ngram.update(model_minus_ngram=0.0, model_minus_ngram_interval=None)
    (private.path / "evaluation.json").write_text(json.dumps({**EVALUATION, "private_ngram": ngram}))
    write_card(read_run(private), None)
    card = card_of(private)
    for covered in ("federated model |", "private n-gram, a noisy sum | 18.2 % |", "for epsilon 9.5 at delta 0.001 of"):
        assert covered in card
    for noiseless in ("trigram, pooled text", "unigram, pooled text", "mixed with the trigram", "0.990", "25.0 %"):
        assert noiseless not in card
    assert card.count("Left out: ") == 1
    assert "The pooled n-gram baselines and mixtures with them are left out" in card
    epsilon = epsilon_spent(private.path)
    assert f"What this run spends of these people's privacy in all: epsilon {epsilon + 8.0:.4g} at delta 0.001" in card


def _found_in(card):
    return {text for text in ("trigram, pooled text", "mixed with the trigram", "0.510 ± 0.020") if text in card}


def with_noise(folder, path):
    """A copy of a run's folder whose settings have central noise, with one charge in its ledger."""
    shutil.copytree(folder.path, path)
    config = read_config(overrides={
        "rounds.count": 1, "privacy.mechanism": "central", "privacy.clip_norm": 1.0, "privacy.noise_multiplier": 2.0,
        "privacy.delta": 1e-3, "privacy.separation": 1, "client.weighting": "equal",
        "model.start_from_word_counts": False,
    })  # fmt: skip
    copied = RunFolder(path)
    copied.write_config(config)
    identity = msgspec.structs.replace(copied.identity(), config_sha256=digest_of_what_matters(config))
    (path / "run.json").write_bytes(msgspec.json.encode(identity))
    Ledger(path, LedgerHead("central", 2.0, 1.0, 20, 1e-3, 0.0, 1, 1, "-")).charge(1, ["ann"], "1")
    return copied
