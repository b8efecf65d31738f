"""The n-gram of a private run: its noise, what it costs by another accountant, and that it is released once."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from gaussian import gaussian_epsilon

from models.private_bigram import Slots, person_vector
from orchestrator.cli.commands import cli
from orchestrator.encoding import Encoder
from orchestrator.errors import ConfigError, PrivacyStop, RunFolderError
from orchestrator.evaluation.ngram_release import read_ngram, release_ngram
from orchestrator.evaluation.privacy import run_privacy
from orchestrator.privacy.calibration import resolve_privacy
from orchestrator.privacy.ledger import Ledger, LedgerHead, read_ledger
from orchestrator.run import noisy_counts
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.run.saved import read_run
from orchestrator.run.spent import spent_in_all, spent_on_ngram
from orchestrator.settings.files import read_config

WORDS, PAIR_WORDS = 90, 60
PRIVATE = {
    "privacy.mechanism": "matrix",
    "privacy.clip_norm": 1.0,
    "privacy.epsilon": 10.0,
    "client.weighting": "equal",
    "model.start_from_word_counts": False,
}


def note(text):
    pass


@pytest.fixture
def begin(tmp_path):
    """(settings) -> a run of 30 people without rounds, 24 of whom train, whose n-gram has a noise seed of zeros."""
    rng, text = random.Random(0), tmp_path / "people.jsonl"
    words = [f"w{n}" for n in range(WORDS)]
    lines = (
        {"client_id": f"p{p:02}", "text": " ".join(rng.choices(words, k=3)), "timestamp": t}
        for p in range(30)
        for t in range(12)
    )
    text.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def begun(name="run", **overrides):
        given = {"data.source": str(text), "data.min_people": 1, "rounds.cohort_size": 6, "rounds.count": 8}
        config = read_config(overrides={**given, "aggregation.aggregator": "plain", **PRIVATE, **overrides})
        corpus, data = load_client_data(config)
        config = resolve_privacy(config, len(data.train))
        folder = RunFolder(tmp_path / name)
        folder.create(config, data.vocabulary, build_identity(config, corpus, data.vocabulary, 6))
        privacy = config.privacy
        if privacy.mechanism != "none":
            head = LedgerHead(
                privacy.mechanism, privacy.noise_multiplier, 1.0, len(data.train), privacy.delta, privacy.epsilon,
                privacy.separation, privacy.bands, "-", privacy.buffers,
            )  # fmt: skip
            Ledger(folder.path, head)
            seed = folder.path / "private_ngram" / "noise_seed"
            seed.parent.mkdir()
            seed.write_text("00" * 32)
            seed.chmod(0o600)
        return read_run(folder)

    return begun


@pytest.fixture
def noisy_sums(monkeypatch):
    """The noisy sums that models were made of."""
    seen, build = [], noisy_counts.build_private_bigram

    def recorded(noisy, noise_std, slots):
        seen.append(noisy)
        return build(noisy, noise_std, slots)

    monkeypatch.setattr(noisy_counts, "build_private_bigram", recorded)
    return seen


def test_the_sum_has_the_noise_that_its_epsilon_takes(begin, noisy_sums):
    run = begin()
    released = release_ngram(run, None, PAIR_WORDS, note)
    people = run.text.data.train
    assert (released.population, released.mechanism, released.pair_words) == (len(people), "central", PAIR_WORDS)
    assert released.delta == run.config.privacy.delta == pytest.approx(len(people) ** -1.1)
    assert released.epsilon == pytest.approx(10.0, abs=1e-6)
    assert gaussian_epsilon(released.delta, released.noise_multiplier) == pytest.approx(10.0, rel=1e-3)
    slots = Slots(run.vocabulary.size, PAIR_WORDS)
    exact = sum(person_vector(own, slots).astype(np.float64) for own in people.values())
    noise = noisy_sums[0] - exact
    assert noise.std() == pytest.approx(released.noise_std, rel=0.05)
    assert abs(noise.mean()) < 4 * released.noise_std / np.sqrt(len(noise))
    assert released.noise_std == pytest.approx(released.noise_multiplier, rel=1e-4)


def test_nobody_moves_the_sum_by_more_than_the_noise_is_made_for(begin):
    """Each person's integers under twenty roundings; the neighbour of a sum has zeros in somebody's place."""
    run = begin()
    released = release_ngram(run, None, PAIR_WORDS, note)
    people, slots = run.text.data.train, Slots(run.vocabulary.size, PAIR_WORDS)
    encoder = Encoder(clip_norm=1.0, num_clients=len(people), max_weight=1.0, shapes=((slots.size,),))
    moves = [
        np.linalg.norm(
            encoder.encode((person_vector(own, slots),), 1.0, np.random.default_rng(seed))[:-1].view(np.int32)
        )
        for own in people.values()
        for seed in range(20)
    ]
    stddev = released.noise_std / encoder.step
    assert released.noise_multiplier * 0.999 * encoder.l2_bound < stddev
    assert stddev >= released.noise_multiplier * max(moves)


def test_known_answer_of_the_built_in_text_s_people():
    """711 people at epsilon 10: the noise multiplier that an accountant of others confirms."""
    settings = {"rounds.count": 1, "rounds.cohort_size": 711, **PRIVATE, "privacy.mechanism": "central"}
    config = resolve_privacy(read_config(overrides={**settings, "server.warmup_rounds": 0}), 711)
    assert config.privacy.noise_multiplier == pytest.approx(0.41314, abs=1e-5)
    assert gaussian_epsilon(711**-1.1, 0.41314) == pytest.approx(10.0, rel=1e-3)


def test_model_and_n_gram_add_up_as_two_gaussian_releases(begin):
    run = begin(**{"privacy.mechanism": "central", "privacy.epsilon": 0.0, "privacy.noise_multiplier": 1.5})
    head, _ = read_ledger(run.path)
    Ledger(run.path, head).charge(1, tuple(run.text.data.train)[:6])
    assert run_privacy(run).total is None
    released = release_ngram(run, 3.0, PAIR_WORDS, note)
    result = run_privacy(run)
    assert result.epsilon[head.delta] == pytest.approx(gaussian_epsilon(head.delta, 1.5), rel=1e-3)
    assert result.ngram.epsilon == pytest.approx(3.0, abs=1e-6)
    expected = gaussian_epsilon(head.delta, 1.5, released.noise_multiplier)
    assert result.total.epsilon == pytest.approx(expected, rel=1e-3)
    assert result.total.delta == head.delta
    assert any("total adds them up" in text for text in result.assumptions)
    shown = " ".join(CliRunner().invoke(cli, ["privacy", "--run", str(run.path)]).output.split())
    assert "An n-gram of their text was released, for epsilon 3 at delta" in shown


def test_secure_aggregation_releases_the_same_and_what_is_kept_is_what_was_released(begin):
    plain, secure = begin(), begin("secure", **{"aggregation.aggregator": "secagg"})
    for run in (plain, secure):
        release_ngram(run, None, PAIR_WORDS, note)
    ours, theirs = read_ngram(plain), read_ngram(secure)
    assert theirs.release.aggregator == "secagg"
    np.testing.assert_array_equal(ours.model.words, theirs.model.words)
    np.testing.assert_array_equal(ours.model.pairs.toarray(), theirs.model.pairs.toarray())
    assert ours.model.pairs.nnz == ours.release.pairs > 0


@pytest.mark.parametrize("mechanism", ["distributed", "local"])
def test_where_clients_add_the_model_s_noise_they_add_this(begin, noisy_sums, mechanism):
    run = begin(**{"privacy.mechanism": mechanism, "aggregation.min_survivors": 6, "aggregation.aggregator": "secagg"})
    released = release_ngram(run, None, PAIR_WORDS, note)
    assert released.mechanism == mechanism
    slots = Slots(run.vocabulary.size, PAIR_WORDS)
    exact = sum(person_vector(own, slots).astype(np.float64) for own in run.text.data.train.values())
    assert (noisy_sums[0] - exact).std() == pytest.approx(released.noise_std, rel=0.05)
    # Enough for the 6 who must survive, or for each by itself: 24 people add 24 / 6 or 24 times that variance.
    times = {"distributed": 2.0, "local": np.sqrt(24)}[mechanism]
    assert released.noise_std == pytest.approx(times * released.noise_multiplier, rel=1e-3)


def test_a_release_that_was_cut_off_is_repeated_and_charged_once(begin):
    run = begin()
    release_ngram(run, None, PAIR_WORDS, note)
    folder = run.path / "private_ngram"
    before = read_ngram(run).model
    (folder / "release.json").unlink()
    (folder / "ngram.npz").unlink()
    release_ngram(run, None, PAIR_WORDS, note)
    np.testing.assert_array_equal(read_ngram(run).model.words, before.words)
    assert len(read_ledger(folder)[1]) == 1


def test_what_is_released_is_not_released_again(begin):
    run = begin()
    first = release_ngram(run, None, PAIR_WORDS, note)
    assert release_ngram(run, None, PAIR_WORDS, note) == first
    for epsilon, words in ((5.0, PAIR_WORDS), (None, PAIR_WORDS - 1)):
        with pytest.raises(RunFolderError, match="holds an n-gram for epsilon 10 with pairs of 60 words"):
            release_ngram(run, epsilon, words, note)
    (run.path / "private_ngram" / "release.json").unlink()  # cut off, and begun again with other settings
    with pytest.raises(PrivacyStop, match="charged for another sum, of other --words .* repeat the call"):
        release_ngram(run, None, PAIR_WORDS - 1, note)
    with pytest.raises(RunFolderError, match=r"begun for another epsilon: repeat the call with --epsilon 10\.0"):
        release_ngram(run, 5.0, PAIR_WORDS, note)
    assert len(read_ledger(run.path / "private_ngram")[1]) == 1


@pytest.mark.parametrize(("mechanism", "is_repeated"), [("central", True), ("distributed", False), ("local", False)])
def test_of_noise_that_people_added_a_sum_that_was_cut_off_is_not_made_again(
    begin, monkeypatch, mechanism, is_repeated
):
    run = begin(**{"privacy.mechanism": mechanism, "aggregation.min_survivors": 6, "aggregation.aggregator": "secagg"})

    class Killed(Exception):
        pass

    vectors = []

    def kill_at_the_third(sentences, slots):
        vectors.append(person_vector(sentences, slots))
        if len(vectors) == 3:
            raise Killed
        return vectors[-1]

    with monkeypatch.context() as patched:
        patched.setattr(noisy_counts, "person_vector", kill_at_the_third)
        with pytest.raises(Killed):
            release_ngram(run, None, PAIR_WORDS, note)
    charges = read_ledger(run.path / "private_ngram")[1]
    if is_repeated:
        assert not charges
        release_ngram(run, None, PAIR_WORDS, note)
    else:
        assert len(charges) == 1
        for epsilon in (None, 5.0):
            with pytest.raises(PrivacyStop, match="cut off while people's noisy vectors were summed: a second sum"):
                release_ngram(run, epsilon, PAIR_WORDS, note)
    assert len(read_ledger(run.path / "private_ngram")[1]) == 1
    assert spent_on_ngram(run.path).epsilon == pytest.approx(10.0, abs=1e-3)


def test_a_distributed_sum_that_was_known_is_repeated_for_nothing(begin):
    secagg = {"aggregation.min_survivors": 6, "aggregation.aggregator": "secagg"}
    run = begin(**{"privacy.mechanism": "distributed", **secagg})
    first = release_ngram(run, None, PAIR_WORDS, note)
    (run.path / "private_ngram" / "release.json").unlink()
    assert release_ngram(run, None, PAIR_WORDS, note) == first
    assert sum(bool(charge.participants) for charge in read_ledger(run.path / "private_ngram")[1]) == 1


@pytest.mark.parametrize("lost", [(), ("release.json",), ("ngram.npz",)], ids=["ledger", "and release", "and n-gram"])
def test_an_n_gram_without_its_ledger_is_refused_by_whoever_counts_or_releases(begin, lost):
    run = begin()
    release_ngram(run, None, PAIR_WORDS, note)
    for name in ("privacy_ledger.jsonl", *lost):
        (run.path / "private_ngram" / name).unlink()
    asked = (spent_on_ngram, run.path), (spent_in_all, run), (read_ngram, run)
    for ask, of in (*asked, (lambda own: release_ngram(own, None, 20, note), run)):
        with pytest.raises(RunFolderError, match="without its privacy_ledger.jsonl: restore the ledger"):
            ask(of)


def test_a_run_that_states_no_epsilon_is_asked_for_one(begin):
    run = begin(**{"privacy.epsilon": 0.0, "privacy.noise_multiplier": 1.5})
    with pytest.raises(ConfigError, match=r"has no privacy.epsilon, .* give the release's by --epsilon"):
        release_ngram(run, None, PAIR_WORDS, note)
    assert release_ngram(run, 3.0, PAIR_WORDS, note).epsilon == pytest.approx(3.0, abs=1e-6)


def test_a_run_without_privacy_and_a_lost_file_are_told_in_a_line(begin, tmp_path):
    open_run = begin("open", **{"privacy.mechanism": "none", "privacy.epsilon": 0.0, "aggregation.clip_norm": 1.0})
    with pytest.raises(ConfigError, match="privacy.mechanism = 'none'"):
        release_ngram(open_run, None, PAIR_WORDS, note)
    run = begin()
    assert read_ngram(run) is None
    release_ngram(run, None, PAIR_WORDS, note)
    path = run.path / "private_ngram" / "ngram.npz"
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], b"no zip"):
        path.write_bytes(damaged)
        with pytest.raises(RunFolderError, match="is missing or damaged"):
            read_ngram(run)
    shutil.rmtree(path.parent)
    assert read_ngram(run) is None
