"""Replay in a fresh process: each aggregator, both client runtimes, sealed noise; what it refuses; and forgetting."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FEDKEYS = [sys.executable, "-m", "orchestrator.cli"]
SMALL = [
    "--preset", "smoke", "--cohort", "6", "--rounds", "3", "--workers", "1",
    "--set", "data.vocabulary_size=120", "--set", "model.vocabulary_size=60", "--set", "model.embedding_size=8",
    "--set", "model.num_cells=12", "--set", "rounds.checkpoint_every=2", "--set", "rounds.keep_checkpoints=2",
    "--set", "evaluation.every=3",
]  # fmt: skip
# keep_checkpoints = 1 leaves only the last, so that round 2 is replayed from the initial state.
RUNS = {
    "plain": ["--aggregator", "plain", "--set", "rounds.keep_checkpoints=1", "--set", "server.average_decay=0.5"],
    "secagg": ["--aggregator", "secagg", "--client-runtime", "litert", "--set", "model.start={top}/plain",
               "--set", "rounds.keep_checkpoints=1"],
    "encrypted": ["--aggregator", "encrypted", "--set", "model.start_from_word_counts=false"],
    "noised": ["--aggregator", "plain", "--set", "privacy.mechanism=central", "--set", "privacy.noise_multiplier=1.0",
               "--set", "privacy.clip_norm=1.0", "--set", "client.weighting=equal",
               "--set", "model.start_from_word_counts=false"],
}  # fmt: skip


def fedkeys(*args):
    return subprocess.run(
        [*FEDKEYS, *map(str, args)], capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{name: folder of a run of three rounds}, and the text."""
    rng, top = random.Random(0), tmp_path_factory.mktemp("replay")
    lines = [
        {"client_id": f"p{person:02}", "text": f"see you at the {rng.choice(['dog', 'house'])} word{person}"}
        for person in range(30)
        for _ in range(20)
    ]
    text = top / "people.jsonl"
    text.write_text("".join(json.dumps({**line, "timestamp": i}) + "\n" for i, line in enumerate(lines)))
    for name, settings in RUNS.items():
        settings = [setting.format(top=top) for setting in settings]
        done = fedkeys("train", "--run", top / name, "--data", text, *SMALL, *settings, "--json")
        assert done.returncode == 0, done.stderr
    return {**{name: top / name for name in RUNS}, "text": text}


def weights_of(run, round_num):
    return json.loads((run / "rounds.jsonl").read_text().splitlines()[round_num - 1])["weights_sha256"]


@pytest.mark.parametrize(
    ("name", "round_num", "begins"), [("plain", 2, 0), ("secagg", 2, 0), ("encrypted", 3, 2), ("noised", 3, 2)]
)
def test_a_round_replays_to_the_same_weights(runs, name, round_num, begins):
    done = fedkeys("replay", "--run", runs[name], "--round", round_num, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["ok"]
    assert not figures["up_to_noise"]
    assert figures["from_round"] == begins
    assert figures["weights_sha256"] == weights_of(runs[name], round_num)


def test_without_the_noise_seed_a_round_is_checked_up_to_the_noise(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["noised"], run)
    (run / "noise_seed").unlink()
    done = fedkeys("replay", "--run", run, "--round", 3, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["ok"]
    assert figures["up_to_noise"]
    assert figures["weights_sha256"] is None


def refusal(run, round_num=3):
    done = fedkeys("replay", "--run", run, "--round", round_num)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr.strip().splitlines()[-1]


def test_what_does_not_belong_to_the_round_is_refused(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["plain"], run)
    path = run / "record.jsonl"
    whole = path.read_text()
    assert "has no round 9" in refusal(run, 9)
    path.write_text(whole.replace('"outcome":"completed"', '"outcome":"abandoned"', 1))
    assert "entry 1: outcome was changed" in refusal(run)
    path.write_text(whole[: len(whole) // 2])
    assert "cut off in entry" in refusal(run)
    path.write_text(whole)
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("cohort_size = 6", "cohort_size = 7"))
    assert "was changed since the run began" in refusal(run)
    other = tmp_path / "other.jsonl"
    other.write_text(runs["text"].read_text().replace("house", "horse"))
    (run / "config.toml").write_text(config.replace(str(runs["text"]), str(other)))
    assert "another text" in refusal(run)


@pytest.mark.parametrize("name", ["code_sha256", "lock_sha256"])
def test_a_round_of_another_code_or_lock_file_is_refused(runs, tmp_path, name):
    from orchestrator.run.record import Entry, build_entry, read_record

    run = tmp_path / "run"
    shutil.copytree(runs["plain"], run)
    entries, previous = [], "0" * 64
    for entry in read_record(run):
        values = {n: getattr(entry, n) for n in Entry.__struct_fields__ if n not in ("field_checks", "entry_sha256")}
        entries.append(build_entry({**values, name: "7" * 64, "previous_sha256": previous}))
        previous = entries[-1].entry_sha256
    import msgspec

    (run / "record.jsonl").write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in entries))
    assert f"entry 3: {name} differs" in refusal(run)


def drawn_for(run, person):
    rounds = map(json.loads, (run / "rounds.jsonl").read_text().splitlines())
    return [line["round_num"] for line in rounds if person in line["selected"]]


def someone_first_in(run, round_num):
    people = json.loads((run / "rounds.jsonl").read_text().splitlines()[round_num - 1])["selected"]
    return next(person for person in people if drawn_for(run, person)[0] == round_num)


def trained_without(path, person, start):
    """The digest of the weights after the last round, by the run's own rounds without the person, from `start` on."""
    from orchestrator.aggregator import Cohort
    from orchestrator.rounds.build import build_aggregator, model_size
    from orchestrator.rounds.cohort import RoundPlan
    from orchestrator.rounds.round import weights_digest
    from orchestrator.run.bound import BoundRun, build_optimizer
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.loop import WallClock
    from orchestrator.run.saved import read_run
    from tff_pipelines.runtime import Runtime

    run = read_run(RunFolder(path))
    config, data = run.config, run.text.data
    data = dataclasses.replace(data, train={name: own for name, own in data.train.items() if name != person})

    def plan(round_num):
        members = tuple(name for name in run.rounds[round_num - 1].selected if name != person)
        return RoundPlan(Cohort(round_num, members, config.aggregation.min_survivors), {})

    size = model_size(config.model, data.vocabulary.size)
    with Runtime("1") as runtime:
        aggregator, optimizer = build_aggregator(config.aggregation), build_optimizer(config.server)
        bound = BoundRun(config, data, size, aggregator, optimizer, runtime, plan=plan)
        state = bound.initial_state() if start == 0 else run.folder.load_checkpoint(start)
        while state.round_num < config.rounds.count:
            state, _ = bound.run_round(state, WallClock())
    return weights_digest(state.model)


@pytest.mark.parametrize(("name", "first", "begins"), [("plain", 2, 0), ("encrypted", 3, 2)])
def test_a_run_forgets_a_person_to_the_weights_that_it_would_have_without_them(runs, tmp_path, name, first, begins):
    """`plain` counted everybody's words for its first weights; round 3 of `encrypted` has a checkpoint before it."""
    run, new, person = runs[name], tmp_path / "new", someone_first_in(runs[name], first)
    key = tmp_path / "key"
    assert fedkeys("keygen", key).returncode == 0
    done = fedkeys("forget", "--run", run, "--client", person, "--out", new, "--key", key, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert json.loads((new / "forgotten.json").read_text()) == figures
    forgotten, exposure = figures["forgotten"], figures["exposure"]
    assert (forgotten["firstRound"], forgotten["retrainedFrom"], forgotten["rounds"]) == (
        first, begins, drawn_for(run, person),
    )  # fmt: skip
    assert forgotten["before"]["weightsSha256"] == weights_of(run, 3)
    assert forgotten["after"]["weightsSha256"] == weights_of(new, 3) == trained_without(run, person, begins)
    assert person not in (new / "forgotten.intoto.json").read_text() + (new / "rounds.jsonl").read_text()
    assert exposure["num_strangers"] == 3  # a tenth of 30
    assert exposure["person"]["before"] != exposure["person"]["after"]

    # Without the person in the text the new run is checked, and computed again, all the same.
    text = tmp_path / "people.jsonl"
    lines = runs["text"].read_text().splitlines(keepends=True)
    text.write_text("".join(line for line in lines if f'"{person}"' not in line))
    config = (new / "config.toml").read_text()
    (new / "config.toml").write_text(config.replace(str(runs["text"]), str(text)))
    done = fedkeys("replay", "--run", new, "--round", 3, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == weights_of(new, 3)

    check = ["forget", "--run", new, "--check", "--public-key", f"{key}.pub"]
    assert fedkeys(*check).returncode == 0
    lines = (new / "rounds.jsonl").read_text()
    shutil.copy(run / "checkpoints" / "round_000003.npz", new / "checkpoints")
    (new / "rounds.jsonl").write_text(lines.replace(weights_of(new, 3), weights_of(run, 3)))
    assert "is not the run that forgotten.intoto.json names" in fedkeys(*check).stderr


def test_under_differential_privacy_the_noise_is_drawn_anew_and_charged(runs, tmp_path):
    run, new, person = tmp_path / "run", tmp_path / "new", someone_first_in(runs["noised"], 3)
    shutil.copytree(runs["noised"], run)
    assert fedkeys("ngram", "--run", run, "--epsilon", 3).returncode == 0
    done = fedkeys("forget", "--run", run, "--client", person, "--out", new, "--json")
    assert done.returncode == 0, done.stderr
    forgotten = json.loads(done.stdout)["forgotten"]
    assert (forgotten["firstRound"], forgotten["retrainedFrom"], forgotten["roundsRetrained"]) == (3, 0, 3)
    assert (run / "noise_seed").read_text() != (new / "noise_seed").read_text()
    assert weights_of(run, 1) != weights_of(new, 1)  # the person was not in it: the noise differs
    charged = [json.loads(line) for line in (new / "privacy_ledger.jsonl").read_text().splitlines()[1:]]
    assert [line["round_num"] for line in charged] == [1, 2, 3]
    assert all(person not in line["participants"] for line in charged)
    # Nobody is drawn twice in three rounds: each model is one release of noise 1, and the n-gram is one for both runs.
    from orchestrator.privacy.accounting import Cost

    spent, released = forgotten["epsilon"], json.loads((run / "private_ngram" / "release.json").read_text())
    ngram = 0.5 / released["noise_multiplier"] ** 2
    assert ngram > 0.1
    assert forgotten["remains"][-1].startswith("the n-gram that the run before released")
    for name, zcdp in (("before", 0.5 + ngram), ("after", 0.5 + ngram), ("both", 1.0 + ngram)):
        assert spent[name] == pytest.approx(Cost(zcdp).epsilon(spent["delta"]))


def test_what_cannot_be_forgotten_is_said_in_one_line(runs, tmp_path):
    done = fedkeys("forget", "--run", runs["plain"], "--client", "nobody", "--out", tmp_path / "new")
    assert (done.returncode, done.stdout) == (2, "")
    assert "client nobody is nobody of" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "new").exists()
