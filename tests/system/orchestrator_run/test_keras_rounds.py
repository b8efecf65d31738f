"""Rounds of a Keras model on people's arrays: under every sum, against Keras's own steps, and from devices' files."""

# Over 300 lines: the same people and model under every sum, in a folder and from files.

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner, Result
from keras_families import family
from scipy.stats import norm

from edge.errors import DeviceDataError
from edge.export.keras_reference import made_up_batches, train_in_tensorflow
from models.weights import largest_difference
from orchestrator import api
from orchestrator.cli.commands import cli
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.release.keras_export import KerasOptions
from orchestrator.run.keras_arrays import load_network
from orchestrator.settings.kinds import SUM_TRAITS
from tff_pipelines.runtime import Runtime

pytestmark = pytest.mark.slow

RATE = 0.2
NUM_PEOPLE = 8


def arrays(person: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A person's examples: nearly all of one class, which is another person's rarity."""
    rng = np.random.default_rng(person)
    y = np.where(rng.random(count) < 0.8, person % 3, rng.integers(0, 3, count))
    return (rng.standard_normal((count, 4)) + 2.0 * np.eye(3, 4)[y]).astype(np.float32), y


PEOPLE = {f"p{person}": arrays(person, 2 + 2 * person) for person in range(NUM_PEOPLE)}  # one batch of 16 each
TEST = {f"t{person}": arrays(100 + person, 9 + person) for person in range(3)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(6, activation="tanh", name="hidden"),
            layers.Dense(3, activation="softmax", name="last"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(1)
    model.set_weights([rng.standard_normal(weight.shape) / 2 for weight in model.get_weights()])
    path = tmp_path_factory.mktemp("keras") / "mlp.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime("1") as workers:
        yield workers


def train(source: Path, runtime: Runtime, sum: str = "plain", **more: object):
    more.setdefault("settings", {"client.learning_rate": RATE})
    return api.train_keras(source, PEOPLE, sum=sum, runtime=runtime, **more)


def classes(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The likeliest classes, in NumPy."""
    kernel, bias, last_kernel, last_bias = weights
    return np.argmax(np.tanh(x @ kernel + bias) @ last_kernel + last_bias, axis=1)


def test_every_sum_gives_the_same_weights_and_each_person_a_score(source: Path, runtime: Runtime) -> None:
    done = {
        sum: train(source, runtime, sum, rounds=2, clients_per_round=6, test=TEST)  # not everybody in each round
        for sum in SUM_TRAITS
    }
    plain = done["plain"]
    for name, other in done.items():
        assert list(other.weights) == ["hidden/kernel", "hidden/bias", "last/kernel", "last/bias"]
        assert all(map(np.array_equal, other.weights.values(), plain.weights.values())), name
        assert [line.weights_sha256 for line in other.rounds] == [line.weights_sha256 for line in plain.rounds]
    weights = list(plain.weights.values())
    by_hand = {who: float(np.mean(classes(weights, x) == y)) for who, (x, y) in TEST.items()}
    assert plain.scores.name == "accuracy"
    assert plain.scores.by_person == pytest.approx(by_hand)
    assert plain.scores.worst[1] == pytest.approx(min(by_hand.values()))
    assert plain.scores.stddev == pytest.approx(np.std(list(by_hand.values())))
    last = plain.rounds[-1].metrics
    assert last["test_accuracy"] == pytest.approx(plain.scores.pooled)
    assert "test_accuracy" not in plain.rounds[0].metrics
    assert last["num_examples"] == last["num_tokens"] == sum_of(plain.rounds[-1].survivors)


def sum_of(people: tuple[str, ...]) -> int:
    return sum(len(PEOPLE[who][1]) for who in people)


def averaged_by_keras(source: Path) -> list[np.ndarray]:
    """One round of everybody, by Keras's own model and loss: each takes a step, then the mean weighted by examples."""
    model = tf.keras.models.load_model(source)
    start, total = model.get_weights(), 0
    mean = [np.zeros_like(weight) for weight in start]
    for x, y in PEOPLE.values():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(y, model(x)))
        after = [w - RATE * g.numpy() for w, g in zip(start, tape.gradient(loss, model.trainable_weights))]
        mean = [m + len(y) * a for m, a in zip(mean, after)]
        total += len(y)
    return [m / total for m in mean]


def test_a_round_is_the_weighted_mean_of_keras_own_steps(source: Path, runtime: Runtime, tmp_path: Path) -> None:
    done = train(source, runtime, rounds=1)
    for mine, theirs in zip(done.weights.values(), averaged_by_keras(source)):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)
    done.save_keras(tmp_path / "after.keras")
    saved = tf.keras.models.load_model(tmp_path / "after.keras")
    assert all(map(np.array_equal, saved.get_weights(), done.weights.values()))
    done.save_npz(tmp_path / "after.npz")
    with np.load(tmp_path / "after.npz") as kept:
        assert all(np.array_equal(kept[name], weight) for name, weight in done.weights.items())


@pytest.mark.parametrize(("name", "lora_rank"), [("gru", 2), ("regressor", 0), ("depthwise", 0)])
def test_a_model_of_any_kind_takes_kerass_step_and_is_scored_as_keras_predicts(
    name: str, lora_rank: int, runtime: Runtime, tmp_path: Path
) -> None:
    """Adapters, a regressor, two inputs, frozen averages: what TFF's workers compute, beside Keras's own layers."""
    model = regressor() if name == "regressor" else family(name)
    network, _ = load_network(model, None, (), lora_rank)
    batches = made_up_batches(network, 6, 3)[:2]
    names = [place.name for place in network.inputs]
    people = {f"p{i}": ({own: batch[own] for own in names}, batch["targets"]) for i, batch in enumerate(batches)}
    settings = {"client.learning_rate": 0.1, "client.batch_size": 8}  # of which two rows are filling
    done = api.train_keras(
        model, people, rounds=1, sum="plain", test=people, settings=settings, lora_rank=lora_rank, runtime=runtime
    )  # fmt: skip
    one, other = (train_in_tensorflow(network, [batch], 0.1)[0] for batch in batches)
    start = [weight.start for weight in network.trainable]
    assert largest_difference(one, start) > 1e-3
    for mine, first, second in zip(done.weights.values(), one, other):
        np.testing.assert_allclose(mine, (first + second) / 2, atol=1e-5)
    done.save_keras(tmp_path / "after.keras")
    saved = tf.keras.models.load_model(tmp_path / "after.keras")
    for who, (x, y) in people.items():
        outputs = saved([x[own] for own in names] if len(names) > 1 else x[names[0]]).numpy()
        if done.scores.name == "accuracy":
            right = outputs.argmax(-1) == (y if y.ndim < outputs.ndim else y.argmax(-1))
            assert done.scores.by_person[who] == pytest.approx(np.mean(right), abs=1e-6)
        else:
            assert done.scores.by_person[who] == pytest.approx(np.mean((outputs - y) ** 2), rel=1e-4)
    assert done.scores.name == ("mean_squared_error" if name == "regressor" else "accuracy")


def regressor() -> tf.keras.Model:
    layers = tf.keras.layers
    size, shape = layers.Input((1,), name="size"), layers.Input((2,), name="shape")
    model = tf.keras.Model([shape, size], layers.Dense(2)(layers.Concatenate()([size, shape])))
    model.compile("sgd", "mse")
    return model


def fedkeys(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def printed(*arguments: object) -> dict:
    done = fedkeys(*arguments, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout.splitlines()[-1])


def test_what_devices_send_is_summed_to_what_the_simulation_gives(
    source: Path, runtime: Runtime, tmp_path: Path
) -> None:
    bundle, run, weights = tmp_path / "bundle", tmp_path / "run", tmp_path / "round.bin"
    api.export_keras(source, bundle, KerasOptions(learning_rate=RATE, parity=False))
    noise = ("privacy.mechanism=central", "privacy.noise_multiplier=1", "privacy.clip_norm=1", "client.weighting=equal")
    asked = [part for setting in noise for part in ("--set", setting)]
    refused = fedkeys("aggregate", "--run", run, "--begin", bundle, *asked)
    assert "the ledger can't count participations" in str(refused.exception)
    assert not run.exists()
    begun = printed("aggregate", "--run", run, "--begin", bundle, "--save-weights", weights)
    assert (begun["next_round"], begun["next_learning_rate"]) == (1, RATE)
    people = dict(list(PEOPLE.items())[:5])
    for num_rounds in (1, 2):
        updates = []
        for who, (x, y) in people.items():
            np.savez(tmp_path / f"{who}.npz", x=x, y=y)
            updates.append(tmp_path / f"{who}.{num_rounds}")
            sent = printed(
                "device-update", bundle, "--data", tmp_path / f"{who}.npz", "--weights", weights, "--out", updates[-1]
            )
            assert sent["num_examples"] == len(y)
        counted = printed("aggregate", "--run", run, *updates, "--save-weights", weights)
        assert (counted["round_num"], counted["num_survivors"]) == (num_rounds, len(people))
        settings = {"client.learning_rate": RATE}
        there = api.train_keras(source, people, rounds=num_rounds, sum="plain", settings=settings, runtime=runtime)
        flat = np.concatenate([weight.ravel() for weight in there.weights.values()])
        np.testing.assert_allclose(np.fromfile(weights, "<f4"), flat, atol=1e-5)
        assert counted["metrics"]["train_loss"] == pytest.approx(there.rounds[-1].metrics["train_loss"], abs=1e-4)
    refused = fedkeys("aggregate", "--run", run, *updates)
    assert "began at other weights" in str(refused.exception)
    assert "holds rounds of a Keras model" in str(fedkeys("evaluate", "--run", run).exception)
    # The next bundle begins where the rounds stand.
    printed("export", "--keras", source, "--weights", weights, "--no-parity", "--out", tmp_path / "next")
    at_start = printed(
        "device-update", tmp_path / "next", "--data", tmp_path / "p0.npz", "--out", tmp_path / "p0.next", "--seed", 0
    )
    again = printed(
        "device-update", bundle, "--data", tmp_path / "p0.npz", "--weights", weights, "--out", tmp_path / "p0.again",
        "--learning-rate", 0.01, "--seed", 0,
    )  # fmt: skip
    assert at_start == again


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("--begin", "nothing"), "nothing is not a bundle's folder"),
        (("--begin", "nothing", "a.bin"), "--begin goes without UPDATE files"),
        (("--cohort", 3, "--save-weights", "w.bin"), "rounds.cohort_size: settings go with --begin"),
    ],
)
def test_rounds_that_can_t_begin_leave_nothing(given: tuple[object, ...], reason: str, tmp_path: Path) -> None:
    refused = fedkeys("aggregate", "--run", tmp_path / "run", *given)
    assert reason in f"{refused.output}{refused.exception}"
    assert list(tmp_path.iterdir()) == []


def test_rounds_go_on_in_their_folder_to_the_same_weights(source: Path, runtime: Runtime, tmp_path: Path) -> None:
    settings = {"client.learning_rate": RATE, "server.algorithm": "fedadam", "server.learning_rate": 0.01}
    whole = train(source, runtime, rounds=3, settings=settings)
    cut_off = Stops(after=2)
    with pytest.raises(KeyboardInterrupt):
        train(source, runtime, rounds=3, settings=settings, folder=tmp_path / "run", observer=cut_off)
    went_on = train(source, runtime, rounds=3, settings=settings, folder=tmp_path / "run", resume=True)
    assert len(went_on.rounds) == 3
    assert all(map(np.array_equal, went_on.weights.values(), whole.weights.values()))
    with pytest.raises(RunFolderError, match="begun with other settings"):
        train(source, runtime, rounds=4, settings=settings, folder=tmp_path / "run", resume=True)
    with pytest.raises(RunFolderError, match="holds rounds"):
        train(source, runtime, rounds=3, settings=settings, folder=tmp_path / "run")
    same = {
        "rounds": 3,
        "settings": settings,
        "folder": tmp_path / "run",
        "resume": True,
        "sum": "plain",
        "runtime": runtime,
    }
    one = {**PEOPLE, "p0": (PEOPLE["p0"][0] + np.float32(1), PEOPLE["p0"][1])}
    renamed = {f"other {who}": own for who, own in PEOPLE.items()}
    for people in (one, renamed, dict(reversed(PEOPLE.items()))):
        with pytest.raises(RunFolderError, match="begun with other people or other arrays"):
            api.train_keras(source, people, **same)
    model = tf.keras.models.load_model(source)
    model.get_layer("hidden").activation = tf.keras.activations.relu
    model.save(tmp_path / "other.keras")
    with pytest.raises(RunFolderError, match="the rounds of another model"):
        api.train_keras(tmp_path / "other.keras", PEOPLE, **same)
    (tmp_path / "run" / "keras.json").unlink()  # a folder of rounds is not what a kill at the start leaves
    with pytest.raises(RunFolderError, match="not an empty folder"):
        train(source, runtime, rounds=3, settings=settings, folder=tmp_path / "run")


def test_a_call_cut_off_before_keras_json_is_repeated(source: Path, runtime: Runtime, tmp_path: Path) -> None:
    cut_off = Stops(after=1)
    with pytest.raises(KeyboardInterrupt):
        train(source, runtime, rounds=2, folder=tmp_path / "run", observer=cut_off)
    for name in ("keras.json", "rounds.jsonl"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    for path in (tmp_path / "run" / "checkpoints").glob("*"):
        if path.name != "round_000000.npz":
            path.unlink()
    assert len(train(source, runtime, rounds=2, folder=tmp_path / "run").rounds) == 2


def test_a_model_s_name_is_no_folder() -> None:
    model = tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(1)], name="a/b")
    model.compile("sgd", "mean_squared_error")
    assert load_network(model, None, (), 0)[1] == "a_b.keras"


class Stops(api.Silent):
    """Ends a training after some rounds, as Control-C would."""

    def __init__(self, after: int):
        self._after = after

    def round_done(self, report, dev):
        if report.round_num == self._after:
            raise KeyboardInterrupt


def test_noise_is_charged_to_a_ledger_or_refused(source: Path, runtime: Runtime, tmp_path: Path) -> None:
    private = {
        "client.learning_rate": RATE, "client.weighting": "equal", "privacy.mechanism": "central",
        "privacy.clip_norm": 0.5, "privacy.noise_multiplier": 1.0,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="name a folder, which keeps the ledger"):
        api.train_keras(source, PEOPLE, settings=private)
    noisy = train(source, runtime, rounds=2, settings=private, folder=tmp_path / "run")
    # Everybody is in both rounds: two Gaussian releases of noise 1 cost what one of noise 1 / sqrt(2) does. Its delta
    # at an epsilon: Balle and Wang 2018, theorem 8.
    head, *charges = map(json.loads, (tmp_path / "run" / "privacy_ledger.jsonl").read_text().splitlines())
    assert [charge["round_num"] for charge in charges] == [1, 2]
    assert head["delta"] == pytest.approx(NUM_PEOPLE**-1.1)
    mu, epsilon = 2**0.5, noisy.epsilon
    delta = norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert delta == pytest.approx(head["delta"], rel=1e-6)
    quiet = train(source, runtime, rounds=2, settings={**private, "privacy.noise_multiplier": 1e-4},
                  folder=tmp_path / "quiet")  # fmt: skip
    moved = [np.std(a - b) for a, b in zip(noisy.weights.values(), quiet.weights.values())]
    # Each round adds noise of 1 clip norm to the sum of 8, divided by 8.
    assert np.mean(moved) == pytest.approx(0.5 / 8 * 2**0.5, rel=0.4)


def test_mistakes_are_told_before_anything_runs(source: Path) -> None:
    x, y = PEOPLE["p0"]
    for people, test, more, error, reason in (
        ({}, None, {}, ConfigError, "people is empty"),
        ({**PEOPLE, "ann": (x, y + 3)}, None, {}, DeviceDataError, r"people\['ann'\]: y holds the class"),
        ({**PEOPLE, "ann": x}, None, {}, DeviceDataError, r"people\['ann'\] must be a pair"),
        (PEOPLE, {1: (x, y)}, {}, DeviceDataError, r"test\[1\]: a person's name is text: give '1'"),
        (PEOPLE, {"bob": (x[:, :3], y)}, {}, DeviceDataError, r"test\['bob'\]: .* has the shape"),
        (PEOPLE, None, {"clients_per_round": 9}, ConfigError, "but 8 people train"),
        (PEOPLE, None, {"rounds": 2, "settings": {"rounds.count": 2}}, ConfigError, "given twice"),
        (PEOPLE, None, {"settings": {"client.dropout": 0.1}}, ConfigError, "do not read this setting"),
    ):
        with pytest.raises(error, match=reason):
            api.train_keras(source, people, test=test, **more)
