"""The attack: its scores by hand, and on a small run that is made here without TFF every view, few people, the page."""

from __future__ import annotations

import numpy as np
import pytest

from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.audit.attack import Scores, attack_run, check_scores, only_the_target, score_views
from orchestrator.audit.attack_results import OnlyTarget, Score, read_attack
from orchestrator.audit.views import Seen, view_names
from orchestrator.cli.audit_tables import print_attack
from orchestrator.errors import RunFolderError
from orchestrator.report.attack_page import write_attack_page
from orchestrator.run.saved import read_run

VIEWS = view_names(5)


@pytest.fixture(scope="module")
def run(tmp_path_factory, begin_run):
    path = tmp_path_factory.mktemp("attack")
    return begin_run(path / "run", path / "people.jsonl", num_people=40)


@pytest.fixture(scope="module")
def found(run):
    return attack_run(read_run(run[0]), None, 10, None, lambda text: None)


@pytest.mark.slow
def test_the_raw_update_tells_and_what_is_hidden_does_not(found):
    """A false alarm of the AUC checks: 3 standard errors, 9 of them: below 3 %, but for fixed updates and masks that
    are fresh each time; so they are held to 6 standard errors here, below 1e-7."""
    assert found.views["raw"]["bias_sign"].f1 >= 0.9
    assert found.views["raw"]["bias_sign"].f1 > found.baseline_f1 + 0.3
    hidden = [check for check in found.checks if check.name.startswith(("masked", "encrypted", "split"))]
    assert len(hidden) == 9
    for check in hidden:
        assert abs(check.value - 0.5) < 6 * check.standard_error, check


@pytest.mark.slow
def test_a_sum_hides_who_and_not_what(found):
    disclosed, attributed = found.views["sum_10"]["bias_sign"], found.attribution["sum_10"]["bias_sign"]
    assert disclosed.precision > 0.95
    assert attributed.precision < 0.5
    only = found.target_only["sum_2"]
    assert only.words / 2 < only.readable <= only.words
    assert found.target_only_words == found.target_only["sum_30"].words


@pytest.mark.slow
def test_enough_noise_hides_what(found):
    curve = [point.auc for point in found.noise.curve]
    assert curve[0] > 0.9
    assert abs(curve[-1] - 0.5) < 0.1
    assert 1e-4 < found.noise.hidden_from <= 10


@pytest.mark.slow
def test_what_too_few_people_cannot_show_is_null_with_its_reason(found):
    assert tuple(found.views) == VIEWS
    assert found.views["sum_100"] is None
    assert found.reasons == {"sum_100": "fewer than 100 people train in this run"}


@pytest.mark.slow
def test_the_order_of_words_is_in_the_update(found):
    """Words here are drawn at random: the model alone knows nothing of their order."""
    one = found.rebuilt["1"]
    assert one.pair_recall > one.model_alone + 0.15
    assert set(found.rebuilt) == {"1", "10"}
    assert len(found.rebuilt["10"].examples) == 8


@pytest.mark.slow
def test_the_page_says_what_is_not_protected(run, found, capsys):
    page = write_attack_page(read_run(run[0]), found, words=True).read_text()
    assert "Not protected" in page
    assert page.count("<svg") == 3
    assert found.clients[0] in page
    print_attack(found)
    assert "sum_10" in capsys.readouterr().out


@pytest.mark.slow
def test_a_named_client_is_attacked_first(run):
    folder, data = run
    name = list(data.train)[-1]
    again = attack_run(read_run(folder), name, 1, 0.5, lambda text: None)
    assert again.clients[0] == name
    assert again.noise.multiplier == 0.5
    with pytest.raises(RunFolderError, match="nobody is no training person"):
        attack_run(read_run(folder), "nobody", 1, None, lambda text: None)


@pytest.mark.slow
def test_ten_people_are_enough(tmp_path, begin_run):
    folder, _ = begin_run(tmp_path / "run", tmp_path / "people.jsonl", num_people=10)
    found = attack_run(read_run(folder), None, 5, None, lambda text: None)
    assert found.views["raw"] is not None
    assert found.views["sum_2"] is not None
    assert set(found.reasons) == {"sum_10", "sum_30", "sum_100"}  # 8 of them train
    write_attack_page(read_run(folder), found)


@pytest.mark.slow
def test_a_damaged_file_is_told(run, found):
    folder = run[0]
    content = (folder.path / "attack.json").read_bytes()
    (folder.path / "attack.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunFolderError, match="attack.json is damaged"):
        read_attack(folder.path)
    (folder.path / "attack.json").write_bytes(content)


WORDS = Vocabulary((*SPECIAL_WORDS, "see", "you", "there", "soon", "my", "dog"))  # ids 4 to 9


def seen_of(bias, typed, only_target=()):
    """What a server has if the update of each word's output bias is this; words are given by their ids."""
    marks = [np.isin(np.arange(10), list(ids)) for ids in (typed, only_target)]
    embedding = np.random.default_rng(0).normal(size=(10, 3))
    return Seen(embedding, np.array([0, 0, 0, 0, *bias], float), *marks)


def two_targets():
    """The first types ids 4 to 6, the second 7 alone; of the views there are the raw updates and the sum of the two."""
    nothing = dict.fromkeys(VIEWS, "not here")
    both = [-2, -1, 1, -3, 1, 1]
    return [
        {**nothing, "raw": seen_of([-1, -1, 1, -1, 1, 1], {4, 5, 6}), "sum_2": seen_of(both, {4, 5, 6, 7}, {4, 5, 6})},
        {**nothing, "raw": seen_of([1, 1, 1, -1, 1, 1], {7}), "sum_2": seen_of(both, {4, 5, 6, 7}, {7})},
    ]


def test_scores_of_two_targets_by_hand():
    """The sign rule names 4, 5 and 7 of the first, two of three right, and 7 of the second; of the sum 4, 5 and 7."""
    scores = score_views(two_targets())
    raw, summed, own = scores.views["raw"]["bias_sign"], scores.views["sum_2"]["bias_sign"], scores.attribution["sum_2"]
    assert (raw.precision, raw.recall, raw.f1) == pytest.approx((5 / 6, 5 / 6, 5 / 6))
    assert raw.f1_sd == pytest.approx(np.sqrt(2) / 6)
    assert (summed.precision, summed.recall) == (1.0, 0.75)
    assert own["bias_sign"].precision == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert scores.baselines["raw"] == 0.5  # three frequent words are all of the first's, one frequent word is none of 7
    assert scores.typed_words["raw"] == 2.0
    assert set(scores.reasons) == set(VIEWS) - {"raw", "sum_2"}
    assert set(scores.attribution) == {"sum_2"}


def test_words_of_one_target_alone_by_hand():
    assert only_the_target(two_targets(), WORDS) == {"sum_2": OnlyTarget(words=4, readable=3, examples=("see", "you"))}


@pytest.mark.parametrize(("auc", "ok"), [(0.5, True), (0.66, True), (0.68, False), (0.32, False)])
def test_a_hidden_view_must_be_near_chance(auc, ok):
    """4 of 100 words typed: the standard error is sqrt(101 / (12 * 4 * 96)) = 0.148, over 7 targets 0.056."""
    perfect = Score(precision=1.0, recall=1.0, f1=1.0, best_f1=1.0, auc=1.0)
    scores = Scores(
        views={
            **dict.fromkeys(VIEWS),
            "raw": {"bias_sign": perfect},
            "masked": {"bias_sign": Score(precision=0.0, recall=0.0, f1=0.0, best_f1=0.1, auc=auc)},
        },
        typed_words={"raw": 4.0, "masked": 4.0},
    )
    raw, masked = check_scores(scores, num_words=100, num_targets=7)
    assert raw.ok
    assert raw.standard_error is None
    assert masked.ok is ok
    assert masked.standard_error == pytest.approx(0.0560, abs=1e-4)
