"""SQLite client data as TFF's own writer writes it, typed like its Stack Overflow and Shakespeare sets."""

from collections import OrderedDict

import pytest

from models.corpus import ClientId, load_corpus
from models.errors import CorpusError

pytestmark = pytest.mark.slow  # importing TFF takes many seconds


def write(path, examples_by_client, splits=None):
    """Writes {client: {feature: values}} with TFF's writer. Plain tf.data: no TFF worker is started."""
    import tensorflow as tf
    import tensorflow_federated as tff

    def dataset_fn(client_id):
        return tf.data.Dataset.from_tensor_slices(OrderedDict(examples_by_client[client_id]))

    tff.simulation.datasets.save_to_sql_client_data(
        list(examples_by_client), dataset_fn, str(path), split_names_by_client_id=splits
    )
    return str(path)


def stack_overflow(tokens, dates):
    count = len(tokens)
    return {
        "creation_date": dates,
        "score": list(range(count)),
        "tags": ["python|c++"] * count,
        "title": ["not the text"] * count,
        "tokens": tokens,
        "type": ["question"] * count,
    }


def test_stack_overflow(tmp_path):
    source = write(
        tmp_path / "stackoverflow.sqlite",
        {
            "10": stack_overflow(
                ["see <URL> , it can't work .", "First , thanks ."],
                ["2010-01-08 09:34:05 UTC", "2008-08-10 08:28:52.1 UTC"],
            ),
            "9": stack_overflow(["held out"], ["2010-01-08 09:34:05 UTC"]),
            "8": stack_overflow(["спасибо ! it works"], ["2011-01-08 09:34:05 UTC"]),
        },
        splits={"10": "train", "9": "heldout", "8": "train"},
    )
    corpus = load_corpus(source)
    assert corpus.name == "stackoverflow.sqlite"
    assert list(corpus.clients) == ["10", "8"]  # the split "train", since there is one
    asker = corpus.clients[ClientId("10")]
    assert asker.sentences == ("first thanks", "see it can't work")  # by creation date
    assert asker.timestamps == (1218356932.1, 1262943245.0)
    assert corpus.clients[ClientId("8")].sentences == ("спасибо", "it works")
    held_out = load_corpus(source + "#heldout")
    assert held_out.name == "stackoverflow.sqlite#heldout"
    assert {client_id: text.sentences for client_id, text in held_out.clients.items()} == {"9": ("held out",)}


def test_shakespeare_without_splits(tmp_path):
    corpus = load_corpus(
        write(
            tmp_path / "shakespeare.db",
            {
                "MACBETH": {"snippets": ["My name's Macbeth.", "'Twas a rough fight.\nHark! When?"]},
                "EMILIA": {"snippets": ["Never."]},
            },
        )
    )
    assert {client_id: text.sentences for client_id, text in corpus.clients.items()} == {
        "EMILIA": ("never",),
        "MACBETH": ("my name's macbeth", "twas a rough fight", "hark", "when"),
    }
    assert set(corpus.clients[ClientId("MACBETH")].timestamps) == {None}


@pytest.mark.parametrize(
    ("examples", "problem"),
    [
        ({"pixels": [1.0, 2.0]}, r"row 1: has no 'tokens' and no 'snippets' among its fields \['pixels'\]"),
        ({"tokens": ["fine", b"\xff"]}, "row 2: 'tokens' is not UTF-8"),
        ({"tokens": ["fine"], "creation_date": ["once"]}, "row 1: creation_date 'once' is no ISO 8601 time"),
    ],
)
def test_examples_that_hold_no_text(tmp_path, examples, problem):
    source = write(tmp_path / "data.sqlite", {"ann": examples})
    with pytest.raises(CorpusError, match=r"data\.sqlite, table examples, " + problem):
        load_corpus(source)


def test_an_example_that_is_damaged(tmp_path):
    import sqlite3

    source = write(tmp_path / "data.sqlite", {"ann": {"tokens": ["see you", "later"]}})
    with sqlite3.connect(source) as database:
        database.execute("UPDATE examples SET serialized_example_proto = ? WHERE rowid = 2", (b"\xff\xff",))
    database.close()
    with pytest.raises(CorpusError, match="row 2: is no serialized tf.train.Example"):
        load_corpus(source)
