"""Public text that people's noisy counts choose: what it costs, that it is paid once, and what a start then says."""

# Over 300 lines: one release of counts, and all that is read of it.

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
from orchestrator.privacy.ledger import read_ledger
from orchestrator.run import noisy_counts
from orchestrator.run.data import read_text
from orchestrator.run.public_choice import ChoiceRule, choose_public_text
from orchestrator.run.public_text import read_public_text
from orchestrator.run.start_origin import Start
from orchestrator.settings.files import read_config

TYPED = ["see", "you", "at", "the", "house", "my", "dog"]
WRITTEN = ["court", "of", "state", "law", "under", "act", "public"]
RULE = ChoiceRule(epsilon=4.0, delta=None, pair_words=60, keep=0.3)


def note(text):
    pass


def sentences(seed, words, number):
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(3, 7))) for _ in range(number)]


@pytest.fixture
def people(tmp_path):
    """Thirty people, 24 of whom train."""
    path = tmp_path / "people.jsonl"
    lines = [
        {"client_id": f"p{person:02}", "text": own, "timestamp": place}
        for person in range(30)
        for place, own in enumerate(sentences(person, TYPED, 12))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def public(tmp_path):
    """A third of it is what people type."""
    lines = sentences(100, TYPED, 60) + sentences(101, WRITTEN, 120)
    random.Random(0).shuffle(lines)
    path = tmp_path / "public.txt"
    path.write_text("\n".join(lines))
    return path


def settings(people, **more):
    given = {
        "data.source": str(people),
        "data.vocabulary": "public",
        "data.vocabulary_size": 900,
        "model.vocabulary_size": 100,
    }
    return read_config(overrides={**given, "aggregation.aggregator": "plain", **more})


def choose(folder, people, public, rule=RULE, **more):
    return choose_public_text(folder, [public], "CC0-1.0", settings(people, **more), rule, note)


def replaced(**changes):
    return ChoiceRule(**{**vars(RULE), **changes})


def test_what_people_type_is_chosen_and_the_bill_is_another_accountant_s(tmp_path, people, public):
    choice = choose(tmp_path / "choice", people, public)
    chosen = (tmp_path / "choice" / "chosen.txt").read_text().splitlines()
    lines = public.read_text().splitlines()
    assert len(chosen) == choice.sentences
    assert choice.of_sentences == len(lines) == 180
    assert chosen == [line for line in lines if line in set(chosen)]  # in the text's order
    typed = sum(set(line.split()) <= set(TYPED) for line in chosen)
    assert typed > 0.9 * len(chosen)
    assert choice.tokens == sum(len(line.split()) for line in chosen)
    words = sum(len(line.split()) for line in lines)
    assert 0.3 * words <= choice.tokens < 0.3 * words + 7
    paid = choice.people
    assert (paid.name, paid.licence) == ("people.jsonl", None)
    assert paid.delta == pytest.approx(24**-1.1)
    assert paid.epsilon == pytest.approx(4.0, abs=1e-6)
    assert gaussian_epsilon(paid.delta, paid.noise_multiplier) == pytest.approx(4.0, rel=1e-3)
    head, charges = read_ledger(tmp_path / "choice")
    assert (head.population, head.noise_multiplier, len(charges)) == (24, paid.noise_multiplier, 1)
    assert len(charges[0].participants) == 24


def test_a_person_more_or_less_moves_the_sum_by_no_more_than_the_noise_is_made_for(tmp_path, people, monkeypatch):
    """The sums that leave the clients, with each person and with zeros in their place."""
    seen, add = [], noisy_counts.build_aggregator

    def recording(aggregation):
        aggregator = add(aggregation)

        class Recorded:
            name = aggregator.name

            def sum(self, vectors, cohort, drops):
                own = dict(vectors)
                seen.append(own)
                return aggregator.sum(iter(own.items()), cohort, drops)

        return Recorded()

    monkeypatch.setattr(noisy_counts, "build_aggregator", recording)
    (tmp_path / "one.txt").write_text("see you at the house")
    choice = choose(tmp_path / "choice", people, tmp_path / "one.txt")
    (vectors,) = seen
    data = read_text(settings(people).data, 0).data
    slots = Slots(data.vocabulary.size, 60)
    encoder = Encoder(clip_norm=1.0, num_clients=24, max_weight=1.0, shapes=((slots.size,),))
    total = sum(vector[:-1].view(np.int32).astype(np.int64) for vector in vectors.values())
    noise = choice.people.noise_multiplier * encoder.l2_bound
    for person, own in data.train.items():
        without = sum(v[:-1].view(np.int32).astype(np.int64) for p, v in vectors.items() if p != person)
        moved = np.linalg.norm(total - without)
        assert 0.99 / encoder.step < moved <= encoder.l2_bound
        assert choice.people.noise_multiplier * moved <= noise
        assert np.linalg.norm(person_vector(own, slots)) <= 1 + 1e-6
    one = np.load(tmp_path / "choice" / "ngram.npz")
    assert set(one) == {"words", "data", "indices", "indptr"}  # nothing of the exact sum is kept


def test_another_share_and_other_text_cost_nothing_more(tmp_path, people, public):
    first = choose(tmp_path / "choice", people, public)
    other = tmp_path / "other.txt"
    other.write_text("\n".join(sentences(7, TYPED, 9) + sentences(8, WRITTEN, 9)))
    for text, rule in ((public, replaced(keep=0.6)), (other, RULE)):
        again = choose(tmp_path / "choice", people, text, rule)
        assert again.people == first.people
    assert again.texts[0].name == "other.txt"
    assert again.of_sentences == 18
    assert len(read_ledger(tmp_path / "choice")[1]) == 1
    assert choose(tmp_path / "choice", people, public) == first


@pytest.mark.parametrize(
    "lost", [("choice.json",), ("choice.json", "release.json"), ("choice.json", "release.json", "ngram.npz")]
)
def test_a_choice_that_was_cut_off_is_the_same_when_it_is_repeated_and_charged_once(tmp_path, people, public, lost):
    first = choose(tmp_path / "choice", people, public)
    for name in lost:
        (tmp_path / "choice" / name).unlink()
    assert choose(tmp_path / "choice", people, public) == first
    assert len(read_ledger(tmp_path / "choice")[1]) == 1


def test_killed_after_the_charge_it_releases_the_same_sum(tmp_path, people, public, monkeypatch):
    class Killed(Exception):
        pass

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(noisy_counts, "build_private_bigram", kill)
        with pytest.raises(Killed):
            choose(tmp_path / "choice", people, public)
    (charge,) = read_ledger(tmp_path / "choice")[1]
    choose(tmp_path / "choice", people, public)
    assert read_ledger(tmp_path / "choice")[1] == [charge]
    with monkeypatch.context() as patched:  # and one that was killed before it goes on with the same noise
        patched.setattr(noisy_counts, "build_aggregator", kill)
        with pytest.raises(Killed):
            choose(tmp_path / "other", people, public)
    assert choose(tmp_path / "other", people, public).sentences


@pytest.mark.parametrize("begun", [True, False], ids=["released", "cut off"])
def test_a_second_release_of_the_same_people_is_refused(tmp_path, people, public, begun):
    folder = tmp_path / "choice"
    choose(folder, people, public)
    if not begun:
        (folder / "release.json").unlink()
    for error, told, rule, more in (
        (RunFolderError, "--epsilon 4(.0| and --words 60)$", replaced(epsilon=1.0), {}),
        ((RunFolderError, PrivacyStop), "--words", replaced(pair_words=50), {}),
        (RunFolderError, "of another seed, .*name another folder", RULE, {"seed": 1}),
        (RunFolderError, "of other shares", RULE, {"data.test_share": 0.4}),
        (RunFolderError, "or of other words", RULE, {"data.vocabulary_size": 800}),
    ):
        with pytest.raises(error, match=told) as refused:
            choose(folder, people, public, rule, **more)
        assert "\n" not in str(refused.value)
    assert len(read_ledger(folder)[1]) == 1
    folder.joinpath("privacy_ledger.jsonl").unlink()
    with pytest.raises(RunFolderError, match="without its privacy_ledger.jsonl: restore the ledger"):
        choose(folder, people, public)


@pytest.mark.parametrize("kept", ["choice.json", "chosen.txt"])
def test_what_was_chosen_without_its_ledger_is_no_free_folder(tmp_path, people, public, kept):
    choose(tmp_path / "choice", people, public)
    for path in (tmp_path / "choice").iterdir():
        if path.name not in {kept, "counted.json"}:
            path.unlink()
    with pytest.raises(RunFolderError, match=f"holds {kept} without its privacy_ledger.jsonl: restore the ledger"):
        choose(tmp_path / "choice", people, public)
    assert not (tmp_path / "choice" / "privacy_ledger.jsonl").exists()


def test_counts_of_another_number_of_people_are_said_to_be_that(tmp_path, people, public):
    with people.open("a") as file:
        file.writelines(f'{{"client_id": "few{number}", "text": "see you"}}\n' for number in range(10))
    choose(tmp_path / "choice", people, public, **{"data.min_sentences": 1})  # 40 people, 32 of whom train
    few = len(read_text(settings(people).data, 0).data.train)
    assert few < 32
    with pytest.raises(RunFolderError, match=f"counts of 32 people, and these settings count {few}: "):
        choose(tmp_path / "choice", people, public)


def test_damaged_counts_are_told_in_one_line(tmp_path, people, public):
    choose(tmp_path / "choice", people, public)
    path = tmp_path / "choice" / "ngram.npz"
    raw = bytearray(path.read_bytes())
    for place in range(60, len(raw) // 2):
        raw[place] ^= 0x5A
    path.write_bytes(raw)
    with pytest.raises(RunFolderError, match="ngram.npz is missing or damaged"):
        choose(tmp_path / "choice", people, public)


def test_what_can_t_be_chosen_is_refused_before_anybody_is_counted(tmp_path, people, public):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(RunFolderError, match="is not an empty folder"):
            choose(tmp_path / name, people, public)
    with pytest.raises(ConfigError, match="these words come from people's text"):
        choose(tmp_path / "choice", people, public, **{"data.vocabulary": "pooled"})
    with pytest.raises(ConfigError, match="name the licence of this text by --licence"):
        choose_public_text(tmp_path / "choice", [public], None, settings(people), RULE, note)
    with pytest.raises(ConfigError, match=r"privacy.delta = 0.2: with 24 training people it may be at most 4.17e-02"):
        choose(tmp_path / "choice", people, public, replaced(delta=0.2))
    assert not (tmp_path / "choice").exists()


def test_where_people_add_the_noise_they_add_this(tmp_path, people, public):
    noisy = {
        "privacy.mechanism": "distributed", "privacy.clip_norm": 1.0, "privacy.epsilon": 9.0,
        "client.weighting": "equal", "model.start_from_word_counts": False, "aggregation.aggregator": "secagg",
        "aggregation.min_survivors": 6, "rounds.cohort_size": 12, "server.warmup_rounds": 0,
    }  # fmt: skip
    choice = choose(tmp_path / "choice", people, public, **noisy)
    assert json.loads((tmp_path / "choice" / "release.json").read_text())["mechanism"] == "distributed"
    assert choice.people.epsilon == pytest.approx(4.0, abs=1e-3)
    assert choice.people.noise_multiplier == 0.0  # of its sum only zCDP is known, so that it adds up by epsilon


def test_a_choice_is_a_text_that_says_what_it_cost(tmp_path, people, public):
    folder = tmp_path / "choice"
    choice = choose(folder, people, public)
    found = read_public_text([folder], None, settings(people))
    assert list(found.sentences) == (folder / "chosen.txt").read_text().splitlines()
    assert found.texts == (*choice.texts, choice.people)
    statement = Start("public text", "mine", 0, "a", "b", 5, 5, found.texts).statement
    assert "on a part of the public text public.txt (licence: CC0-1.0), chosen by noisy counts. The noisy" in statement
    assert "counts are of what people typed (people.jsonl), at epsilon 4, delta 0.03." in statement
    assert "costs no epsilon" not in statement
    whole = read_public_text([public, folder], "CC0-1.0", settings(people))
    assert whole.sentences[180:] == found.sentences
    statement = Start("public text", "mine", 0, "a", "b", 5, 5, whole.texts).statement
    assert statement.endswith("on the public text public.txt (licence: CC0-1.0), which costs no epsilon.")
    assert statement.count("a part of") == 1
    for told, config in (
        ("of seed = 0 chose it, of whom seed = 3 makes some test people: take seed = 0", settings(people, seed=3)),
        ("take data.test_share = 0.1", settings(people, **{"data.test_share": 0.5})),
        ("take data.dev_share = 0.1", settings(people, **{"data.dev_share": 0.3})),
        ("are those of data.tokeniser = 2", settings(people, **{"data.tokeniser": 1})),
    ):
        with pytest.raises(ConfigError, match=told):
            read_public_text([folder], None, config)
    with (folder / "chosen.txt").open("a") as file:
        file.write("one more\n")
    with pytest.raises(RunFolderError, match="does not hold the sentences that were chosen"):
        read_public_text([folder], None, settings(people))


def test_a_file_of_a_choice_is_no_text_without_its_bill(tmp_path, people, public):
    folder = tmp_path / "choice"
    choose(folder, people, public)
    for left in (True, False):
        with pytest.raises(RunFolderError, match="people's counts chose it: name the folder"):
            read_public_text([folder / "chosen.txt"], "CC0-1.0", settings(people))
        if left:
            (folder / "choice.json").unlink()
    with pytest.raises(RunFolderError, match="nothing is chosen there yet: repeat `fedkeys select-public`"):
        read_public_text([folder], "CC0-1.0", settings(people))


@pytest.mark.parametrize("in_folder", [False, True], ids=["link", "folder with it"])
def test_a_link_to_what_was_chosen_is_no_free_text(tmp_path, people, public, in_folder):
    choose(tmp_path / "choice", people, public)
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "nice.txt").symlink_to(tmp_path / "choice" / "chosen.txt")
    with pytest.raises(RunFolderError, match="people's counts chose .*name the folder"):
        read_public_text([texts if in_folder else texts / "nice.txt"], "CC0-1.0", settings(people))
    (tmp_path / "link").symlink_to(tmp_path / "choice")
    assert read_public_text([tmp_path / "link"], None, settings(people)).texts[-1].epsilon  # with its bill


def test_the_command_prints_what_was_chosen_and_what_it_cost(tmp_path, people, public):
    command = [
        "select-public", "--out", str(tmp_path / "choice"), "--text", str(public), "--licence", "CC0-1.0",
        "--epsilon", "2", "--delta", "0.01", "--words", "50", "--keep", "0.5", "--data", str(people),
        "--aggregator", "plain",
    ]  # fmt: skip
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "noisy counts of people.jsonl chose them: epsilon 2 at delta 0.01" in " ".join(done.output.split())
    again = CliRunner().invoke(cli, [*command, "--json"])
    assert json.loads(again.stdout) == json.loads((tmp_path / "choice" / "choice.json").read_text())
    shutil.rmtree(tmp_path / "choice")
    for changed, told in (("0", "--epsilon"), ("nan", "is no number")):
        bad = CliRunner().invoke(cli, [changed if part == "2" else part for part in command])
        assert bad.exit_code == 2
        assert told in bad.output
    assert not (tmp_path / "choice").exists()
