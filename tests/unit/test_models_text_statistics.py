"""The figures and the picture of `fedkeys data`, against counts made by hand."""

import dataclasses
import json
import struct

import pytest

from models.corpus import ClientId, ClientText, Corpus, PeopleSplit
from models.text_statistics import describe, plot
from models.vocabulary import SPECIAL_WORDS, Vocabulary


def make_corpus(texts):
    clients = {
        ClientId(name): ClientText(ClientId(name), sentences, (None,) * len(sentences))
        for name, sentences in texts.items()
    }
    return Corpus("by hand", clients, digest="")


CORPUS = make_corpus({"ann": ("a b c", "a"), "bob": ("a b x y",), "carol": ("a z",)})
SPLIT = PeopleSplit(train=(ClientId("ann"),), dev=(ClientId("bob"),), test=(ClientId("carol"),))
VOCABULARY = Vocabulary(SPECIAL_WORDS + ("a", "b", "c", "public"))  # the last is nobody's


def test_figures_counted_by_hand():
    statistics = describe(CORPUS, SPLIT, VOCABULARY)
    assert (statistics.clients, statistics.sentences, statistics.tokens) == (3, 4, 10)
    assert statistics.vocabulary == 7
    assert statistics.oov_rate == pytest.approx(3 / 6)  # x, y, z of bob's and carol's six
    assert statistics.tokens_per_client == pytest.approx({"p10": 2.4, "p50": 4, "p90": 4})
    assert statistics.sentence_words == pytest.approx({"p10": 1.3, "p50": 2.5, "p90": 3.7, "mean": 2.5})
    assert statistics.people == {"train": 1, "dev": 1, "test": 1}
    assert set(statistics.coverage.values()) == {1.0}
    json.dumps(dataclasses.asdict(statistics))


def test_coverage_is_the_share_of_the_most_frequent_words():
    rare = tuple(f"w{number}" for number in range(3000))
    corpus = make_corpus({"ann": rare, "bob": ("often",) * 1000, "carol": ("a",)})
    statistics = describe(corpus, SPLIT, VOCABULARY)
    assert statistics.coverage == pytest.approx(
        {"1000": (1000 + 999) / 4001, "2000": (1000 + 1999) / 4001, "5000": 1, "10000": 1}
    )


def test_the_picture_is_a_png_of_its_size(tmp_path):
    path = tmp_path / "data.png"
    plot(CORPUS, describe(CORPUS, SPLIT, VOCABULARY), path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1950, 660)
    assert len(content) > 20_000  # a blank sheet of this size has a tenth of that
