"""A word list from noisy secure sums: exact without noise, the noise's law and its epsilon, what a client sends."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from models.client_data import build_client_data
from models.corpus import ClientText, Corpus
from models.vocabulary import NUM_SPECIAL, SPECIAL_WORDS, Vocabulary
from orchestrator.aggregator import PlainSum
from orchestrator.cli.commands import cli
from orchestrator.errors import BelowThreshold, ConfigError, VocabularyDiscoveryError
from orchestrator.rounds.build import build_aggregator
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import SCHEMA, RunFolder, RunIdentity
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import AggregationConfig
from orchestrator.vocabulary.discover import RepeatedTotal, SecureTotal, discover, ranked
from orchestrator.vocabulary.measure import find_for_run
from orchestrator.vocabulary.prefix_tree import END, LETTERS, Level, choose_nodes, nodes_of
from orchestrator.vocabulary.skellam import draw_skellam, epsilon_of, secret_bytes, skellam_rdp, variance_for


def people_with_words(rng, num_people=30, num_words=60):
    """{person: Counter}, from words of one to nine letters, many of them each other's prefixes."""
    words = sorted({"".join(rng.choice(list("abc"), rng.integers(1, 10))) for _ in range(num_words)})
    share = rng.uniform(0, 1, len(words))
    return {
        f"p{i}": Counter({w: int(rng.integers(1, 9)) for w, s in zip(words, share) if rng.random() < s})
        for i in range(num_people)
    }


def users(people):
    return Counter(word for own in people.values() for word in own)


@pytest.mark.parametrize("aggregator", ["plain", "secagg", "encrypted"])
def test_without_noise_the_list_is_exactly_the_words_of_k_people(aggregator):
    people = people_with_words(np.random.default_rng(0), num_people=12, num_words=25)
    nodes = {person: choose_nodes(own, 10**6) for person, own in people.items()}
    secure = SecureTotal(nodes, build_aggregator(AggregationConfig(aggregator=aggregator)), 0.0)
    found = discover(secure, "abc", k=5, noise_std=0.0)
    assert found.counts == {word: count for word, count in users(people).items() if count >= 5}
    assert len(found.counts) > 3


def test_exact_for_every_k():
    people = people_with_words(np.random.default_rng(1))
    nodes = {person: choose_nodes(own, 10**6) for person, own in people.items()}
    for k in (1, 2, 10, 29):
        found = discover(RepeatedTotal(nodes, 0.0), "abc", k, 0.0)
        assert found.counts == {word: count for word, count in users(people).items() if count >= k}


def test_a_client_changes_at_most_max_nodes_coordinates_by_one():
    """Over all levels, whatever is opened: also if everything is."""
    own = people_with_words(np.random.default_rng(2), num_people=1, num_words=80)["p0"]
    for max_nodes in (1, 7, 50):
        nodes = choose_nodes(own, max_nodes)
        assert 0 < len(nodes) <= max_nodes
        level, filled = Level("abc", ()), 0
        for _ in range(12):
            slots = level.slots(nodes)
            assert len(set(slots)) == len(slots)
            filled += len(slots)
            level = Level(
                "abc", tuple(node for node in level.nodes if not node.endswith(END) and node in nodes) or ("zz",)
            )
        assert filled == len(nodes)


def test_slots_are_the_nodes_places():
    level = Level("ab", ())
    assert len(set(level.nodes)) == level.num_slots == 2 + 4 + 8
    for word in ("a", "ab", "abb"):
        (slot,) = level.slots(frozenset(nodes_of(word)))
        assert level.nodes[slot] == nodes_of(word)[0]
    below = Level("ab", ("abb",))
    assert [below.nodes[slot] for slot in below.slots(frozenset(nodes_of("abb")))] == ["abb" + END]


def test_words_with_other_letters_are_never_found():
    nodes = {f"p{i}": choose_nodes({"ab": 1, "ça": 1}, 100) for i in range(9)}
    assert discover(RepeatedTotal(nodes, 0.0), "ab", 5, 0.0).counts == {"ab": 9}


@pytest.mark.parametrize("letters", ["", "aa", "ab\n"])
def test_bad_letters_are_refused(letters):
    with pytest.raises(VocabularyDiscoveryError, match="letters must differ"):
        Level(letters, ())


@pytest.mark.parametrize(("variance", "shares"), [(0.3, 1), (5.0, 1), (20.0, 40), (3000.0, 1)])
def test_shares_of_noise_add_up_to_skellam(variance, shares):
    """n = 40,000 draws against the distribution: chi-squared at a false-alarm rate of 1e-6."""
    rng = np.random.default_rng(3)
    size = 40_000
    draws = sum(draw_skellam(variance / shares, size, rng.bytes) for _ in range(shares))
    edges = np.unique(stats.skellam.ppf(np.linspace(0.03, 0.97, 20), variance / 2, variance / 2))
    cells = np.searchsorted(edges, draws)
    below = np.concatenate([[0], stats.skellam.cdf(edges, variance / 2, variance / 2), [1]])
    expected = size * np.diff(below)
    kept = expected > 5
    statistic = ((np.bincount(cells, minlength=len(expected)) - expected)[kept] ** 2 / expected[kept]).sum()
    assert statistic < stats.chi2.isf(1e-6, kept.sum() - 1)


def test_noise_comes_fresh_from_the_operating_system():
    assert secret_bytes(32) != secret_bytes(32)
    assert SecureTotal({}, PlainSum(), 1.0).random_bytes is secret_bytes


def test_the_divergence_bound_holds():
    """Against the divergence worked out term by term for one coordinate moved by one."""
    for variance in (5.0, 40.0, 400.0):
        values = np.arange(-int(40 * math.sqrt(variance)), int(40 * math.sqrt(variance)))
        log_p = stats.skellam.logpmf(values, variance / 2, variance / 2)
        log_q = stats.skellam.logpmf(values - 1, variance / 2, variance / 2)
        fine = np.isfinite(log_p) & np.isfinite(log_q)
        for order in (2, 5, 16):
            exact = np.logaddexp.reduce((order * log_p + (1 - order) * log_q)[fine]) / (order - 1)
            bound = skellam_rdp(order, variance, 1, 1)
            assert exact <= bound * (1 + 1e-9)
            assert variance < 40 or bound == pytest.approx(exact, rel=0.2)


def test_epsilon_falls_with_noise_and_meets_the_gaussian():
    for epsilon in (0.5, 2.0, 8.0):
        variance = variance_for(epsilon, 800, 1e-6)
        assert epsilon * 0.999 < epsilon_of(variance, 800, 1e-6) <= epsilon
        # A Gaussian of the same variance, exactly: Balle & Wang 2018, equation 6. The bound may not be below it.
        mu = math.sqrt(800 / variance)
        delta = stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
        assert 1e-9 < delta < 1e-6
    assert variance_for(math.inf, 800, 1e-6) == 0.0
    assert epsilon_of(0.0, 800, 1e-6) == math.inf
    with pytest.raises(ValueError, match="epsilon must be above 0"):
        variance_for(0.0, 800, 1e-6)


def test_a_sum_without_everybody_is_refused():
    class LosesOne:
        name = "plain"

        def sum(self, vectors, cohort, drops):
            return PlainSum().sum(list(vectors)[1:], cohort, drops)

    nodes = {f"p{i}": choose_nodes({"ab": 1}, 9) for i in range(4)}
    with pytest.raises(BelowThreshold):
        SecureTotal(nodes, LosesOne(), 4.0)(Level("ab", ()))


def test_rare_words_stay_out_of_a_noisy_list():
    """n = 300 words that 9 people use, k = 10: each is listed with 0.13 % at most; false alarm below 1e-6."""
    words = ["".join(np.random.default_rng(i).choice(list("abcdef"), 6)) for i in range(300)]
    own = choose_nodes(Counter(words), 10**6)
    nodes = {f"p{i}": own for i in range(9)}
    variance = 25.0
    rng = np.random.default_rng(4)
    found = discover(RepeatedTotal(nodes, variance, random_bytes=rng.bytes), "abcdef", 10, 5.0)
    assert len(set(found.counts) & set(words)) <= stats.binom.isf(1e-6, 300, stats.norm.sf(3))


ODD = ("friend", "friends")


def corpus_of(num_people=40):
    clients = {}
    for i in range(num_people):
        sentences = tuple(f"see you there {ODD[i % 2]} {chr(97 + i // 26)}{chr(97 + i % 26)}x" for _ in range(12))
        clients[f"p{i:02}"] = ClientText(f"p{i:02}", sentences, (None,) * 12)
    return Corpus("c", clients, "0" * 64)


def test_a_given_vocabulary_is_the_runs():
    vocabulary = Vocabulary(SPECIAL_WORDS + ("you", "see"))
    data = build_client_data(corpus_of(), seed=0, vocabulary=vocabulary)
    assert data.vocabulary == vocabulary
    assert next(iter(data.train.values()))[0].tolist() == [5, 4, 3, 3, 3]
    assert build_client_data(corpus_of(), seed=0, vocabulary=vocabulary, vocabulary_size=5).vocabulary.size == 5


def write_corpus(path):
    with open(path, "w") as file:
        for person, text in corpus_of().clients.items():
            for sentence in text.sentences:
                file.write(json.dumps({"client_id": person, "text": sentence}) + "\n")
    return path


def test_the_command_writes_a_list_that_a_run_reads(tmp_path):
    source, out = write_corpus(tmp_path / "text.jsonl"), tmp_path / "words.txt"
    arguments = [
        "vocabulary",
        "--data",
        source,
        "--out",
        out,
        "--epsilon",
        "inf",
        "--aggregator",
        "encrypted",
        "--json",
    ]
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    figures = json.loads(result.stdout[result.stdout.index("{") :])
    words = Vocabulary.read(out).words[NUM_SPECIAL:]
    assert set(words) == {"see", "you", "there", *ODD}
    assert figures["words"] == 5
    assert figures["epsilon"] is None
    assert figures["coverage"]["train"] == pytest.approx(0.8)
    assert figures["coverage"]["train_ratio"] == pytest.approx(figures["most_possible_train_ratio"])
    config = read_config(overrides={"data.source": str(source), "data.vocabulary": str(out)})
    assert load_client_data(config)[1].vocabulary.words[NUM_SPECIAL:] == words


def test_too_few_people_are_refused_and_nothing_written(tmp_path):
    source, out = write_corpus(tmp_path / "text.jsonl"), tmp_path / "words.txt"
    arguments = ["vocabulary", "--data", source, "--out", out, "--k", 100, "--aggregator", "plain"]
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert isinstance(result.exception, BelowThreshold)
    assert result.exception.exit_code == 3
    assert not out.exists()


def test_what_nobody_uses_hardly_passes():
    """n = 50 trees that nobody fills: 0.2 false words a level on average, a dozen levels; false alarm below 1e-6."""
    rng = np.random.default_rng(8)
    found = [
        len(discover(RepeatedTotal({}, 400.0, random_bytes=rng.bytes), "abcde", 10, 20.0).counts) for _ in range(50)
    ]
    assert sum(found) <= stats.poisson.isf(1e-6, 50 * 0.2 * 12)


def test_federated_words_are_found_only_by_training():
    with pytest.raises(ConfigError, match="only `fedkeys train` finds the words itself"):
        load_client_data(read_config(overrides={"data.vocabulary": "federated"}))


def test_a_federated_run_finds_its_words_and_keeps_them_wherever_it_goes(tmp_path):
    source = tmp_path / "text.jsonl"
    with open(source, "w") as file:
        for i in range(400):
            file.write(json.dumps({"client_id": f"p{i:03}", "text": "see you there. see my dogs"}) + "\n")
    overrides = {"data.source": str(source), "data.vocabulary": "federated", "aggregation.aggregator": "plain"}
    config, folder = read_config(overrides=overrides), RunFolder(tmp_path / "run")
    found = find_for_run(folder, config, lambda text: None)
    path = tmp_path / "run" / "vocabulary.txt"
    assert found.data.vocabulary == str(path)
    assert {"see", "you", "there", "my", "dogs"} <= set(Vocabulary.read(path).words)
    assert json.loads((tmp_path / "run" / "vocabulary.json").read_text())["epsilon"] == 8.0
    folder.create(found, Vocabulary.read(path), RunIdentity(SCHEMA, "0", "c", "0", "0", 1, {}))
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = RunFolder(tmp_path / "moved")
    for begun in (moved.config(), moved.with_own_vocabulary(config)):
        assert begun.data.vocabulary == str(tmp_path / "moved" / "vocabulary.txt")


def test_pooled_stays_the_default():
    assert RunConfig().data.vocabulary == "pooled"


def test_ranks_are_by_count():
    assert ranked({"b": 3, "a": 3, "c": 9}, 2) == ("c", "a")


def test_letters_are_those_of_tokenised_english():
    assert set("don't 10:30") - {" "} <= set(LETTERS)
