"""A person's own network from a file: what is read, what runs, and what is refused in one line."""

from __future__ import annotations

import hashlib
import textwrap

import pytest
from exported_run import build_run

from models import own_network
from models.errors import OwnNetworkError
from models.own_network import code_of_kind
from models.weights import ModelSize
from orchestrator.errors import ConfigError
from orchestrator.run.folder import CODE_FILE
from orchestrator.run.own_code import load_code, read_code, trust_run
from orchestrator.settings.files import read_config

TIME = 5


@pytest.fixture
def text(tmp_path):
    """Twelve people, as many words as a tiny model has."""
    path = tmp_path / "people.jsonl"
    lines = (
        f'{{"client_id": "p{who}", "text": "see you at the house word{n}"}}\n' for who in range(12) for n in range(30)
    )
    path.write_text("".join(lines))
    return path


def write(folder, text, name="mine.py"):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def load(folder, text, function="build"):
    """The names of the weights of a file's network at nine words."""
    code = read_code(f"{write(folder, text)}:{function}")
    load_code(code, TIME, lambda said: None)
    return ModelSize(9, 4, 3, code.kind).by_name


KERAS = """
    import tensorflow as tf
    keras, layers = tf.keras, tf.keras.layers

    def build(size):
        words = keras.Input((size.max_words,), dtype="int32")
        x = layers.Embedding(size.vocabulary_size, size.embedding_size)(words)
        {middle}
        return keras.Model(words, layers.Dense(size.vocabulary_size{last})(x))
"""


def keras(middle="", last=""):
    return KERAS.format(middle=middle, last=last)


def test_reading_a_file_runs_nothing(tmp_path):
    path = write(tmp_path, "raise AssertionError('it ran')")
    code = read_code(f"{path}:build")
    assert code_of_kind(code.kind) == ("mine.py", "build", hashlib.sha256(path.read_bytes()).hexdigest())


def test_loading_says_that_the_code_runs_and_runs_it_once(tmp_path):
    ran, said = tmp_path / "ran", []
    text = f"from pathlib import Path\nran = Path({str(ran)!r})\nassert not ran.exists()\nran.touch()\nbuild = print"
    path = write(tmp_path, text)
    for _ in range(2):
        load_code(read_code(f"{path}:build"), TIME, said.append)
    assert (tmp_path / "ran").exists()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert said == [f"running the code of {path}, with your rights (SHA-256 {digest[:12]})"]


@pytest.mark.parametrize("place", ["mine.py", "mine.txt:build", ":build", "mine.py:", "mine.py:not a name"])
def test_a_place_of_another_form_is_refused(place, tmp_path):
    with pytest.raises(OwnNetworkError, match=r"give it as FILE\.py:FUNCTION"):
        read_code(place)


def test_a_name_that_could_not_stand_in_a_setting_is_refused(tmp_path):
    path = write(tmp_path, "", name="my model.py")
    with pytest.raises(OwnNetworkError, match="call the file by letters, digits"):
        read_code(f"{path}:build")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OwnNetworkError, match="is no file"):
        read_code(f"{tmp_path / 'gone.py'}:build")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def build(size:\n    pass", r"mine\.py:1: the file raised SyntaxError"),
        ("import nothing_of_that_name", r"mine\.py:1: the file raised ModuleNotFoundError"),
        ("raise SystemExit(0)", r"mine\.py:1: the file raised SystemExit"),
        ("build = 3", "has no function build"),
        ("def other(size):\n    pass", "has no function build"),
        (
            "def build(size):\n    x = 1\n    return x / 0",
            r"mine\.py:3: build raised ZeroDivisionError: division by zero$",
        ),
        ("def build():\n    pass", "build raised TypeError"),
        ("def build(size):\n    return 'a model'", "returned str, and not a Keras model or a PureNetwork"),
        ("def build(size):\n    return None", "returned NoneType"),
    ],
)
def test_a_file_that_builds_nothing_is_refused_with_its_line(text, said, tmp_path):
    with pytest.raises(OwnNetworkError, match=said) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_keras_model_gives_its_weights_by_the_names_of_its_layers(tmp_path):
    assert load(tmp_path, keras("x = layers.GRU(size.num_cells, return_sequences=True)(x)")) == {
        "embedding_embeddings": (9, 4),
        "gru_gru_cell_kernel": (4, 9),
        "gru_gru_cell_recurrent_kernel": (3, 9),
        "gru_gru_cell_bias": (2, 9),
        "dense_kernel": (3, 9),
        "dense_bias": (9,),
    }


def test_a_sequential_model_that_ends_in_softmax_has_its_roles(tmp_path):
    text = """
        import tensorflow as tf
        def build(size):
            return tf.keras.Sequential([
                tf.keras.Input((size.max_words,), dtype="int32"),
                tf.keras.layers.Embedding(size.vocabulary_size, 4),
                tf.keras.layers.Dense(size.vocabulary_size),
                tf.keras.layers.Softmax(),
            ])
    """
    code = read_code(f"{write(tmp_path, text)}:build")
    load_code(code, TIME, lambda said: None)
    size = ModelSize(9, 4, 3, code.kind)
    assert (size.role("embedding"), size.role("output_bias")) == ("embedding_embeddings", "dense_bias")


@pytest.mark.parametrize(
    ("middle", "last", "said"),
    [
        ("x = layers.Lambda(lambda y: y)(x)", "", r"layer lambda \(Lambda\) is code in the model"),
        ("x = layers.GRU(3)(x)", "", r"layer dense gives float32 \(None, 9\)"),
        ("x = layers.BatchNormalization()(x)", "", r"layer batch_normalization .*moving_mean.* would not train"),
        ("x = layers.Dense(4, trainable=False, name='fixed')(x)", "", "layer fixed .* would not train"),
        ("", ", dtype='float64'", "layer dense gives float64"),
        (
            "words = keras.Input((3,), dtype='int32')\n        x = layers.Embedding(9, 4)(words)",
            "",
            r"takes \(None, 3\)",
        ),
        ("words = keras.Input((5,))\n        x = layers.Embedding(9, 4)(words)", "", "takes float32, and word ids"),
        ("x = layers.Embedding(8, 4)(words)", "", "layer embedding_1 .*reads ids below 8, and there are 9"),
    ],
)
def test_a_keras_model_that_is_no_next_word_model_is_refused_by_its_layer(middle, last, said, tmp_path):
    with pytest.raises(OwnNetworkError, match=said) as caught:
        load(tmp_path, keras(middle, last))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("Dense(4, kernel_regularizer='l2', name='pulled')", "layer pulled .* has a kernel_regularizer"),
        ("Dense(4, kernel_constraint='non_neg', name='held')", "layer held .* has a kernel_constraint"),
        ("ActivityRegularization(0.1, name='pulled')", "layer pulled .* can't be exported: its penalty"),
    ],
)
def test_what_a_phones_step_would_not_have_is_refused(layer, said, tmp_path):
    with pytest.raises(OwnNetworkError, match=said):
        load(tmp_path, keras(f"x = layers.{layer}(x)"))


def test_a_layer_that_only_is_called_as_keras_is_refused(tmp_path):
    text = """
        import tensorflow as tf
        class Dense(tf.keras.layers.Dense):
            def call(self, x):
                return 2 * super().call(x)
        def build(size):
            words = tf.keras.Input((size.max_words,), dtype="int32")
            x = tf.keras.layers.Embedding(size.vocabulary_size, 4)(words)
            return tf.keras.Model(words, Dense(size.vocabulary_size, name="mine")(x))
    """
    with pytest.raises(OwnNetworkError, match=r"layer mine \(Dense\) .* not Keras's own layer"):
        load(tmp_path, text)


def test_what_a_file_prints_is_no_output_of_the_command(tmp_path, capsys):
    load(tmp_path, keras() + "    print('hello')\n")
    printed = capsys.readouterr()
    assert (printed.out, "hello" in printed.err) == ("", True)


def test_a_subclass_without_a_graph_is_refused(tmp_path):
    text = """
        import tensorflow as tf
        class Mine(tf.keras.Model):
            def call(self, words):
                return words
        def build(size):
            return Mine()
    """
    with pytest.raises(OwnNetworkError, match="Mine is neither a functional nor a Sequential model"):
        load(tmp_path, text)


def own_run(tmp_path, text):
    """A run whose network is one's own, as another process would find it."""
    code = read_code(f"{write(tmp_path, KERAS.format(middle='', last=''))}:build")
    load_code(code, read_config(preset="smoke").data.max_words, lambda said: None)
    folder = build_run(tmp_path / "run", text, **{"model.kind": code.kind})
    del own_network._LOADED[code.kind]
    return folder, code


def test_a_run_keeps_its_code_and_runs_it_when_trusted(tmp_path, text):
    folder, code = own_run(tmp_path, text)
    assert (folder.path / CODE_FILE).read_bytes() == code.source
    weights = folder.load_checkpoint().model
    with pytest.raises(OwnNetworkError, match="--trust-model"):
        ModelSize.of(weights, folder.config().model.kind)
    trust_run(folder.path, lambda said: None)
    assert ModelSize.of(weights, folder.config().model.kind).vocabulary_size == 30


def test_a_copy_that_was_changed_does_not_run(tmp_path, text):
    folder, _ = own_run(tmp_path, text)
    ran = tmp_path / "ran"
    (folder.path / CODE_FILE).write_text(f"open({str(ran)!r}, 'w')")
    with pytest.raises(OwnNetworkError, match="is not the code that the run was trained with, and did not run"):
        trust_run(folder.path, lambda said: None)
    assert not ran.exists()


@pytest.mark.parametrize(("setting", "value"), [("model.start", "somewhere"), ("client.dropout", 0.1)])
def test_settings_that_need_to_know_the_network_are_refused(setting, value):
    with pytest.raises(ConfigError, match=f"{setting} = {value}"):
        read_config(overrides={"model.kind": "mine.py:build@" + 64 * "0", setting: value})


def test_settings_are_read_without_the_code():
    config = read_config(overrides={"model.kind": "mine.py:build@" + 64 * "0", "model.embedding_size": 63})
    assert config.model.width_multiple == 1
