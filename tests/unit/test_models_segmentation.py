"""Text of scripts without spaces, cut into words by ICU, or refused where ICU is not installed."""

from __future__ import annotations

import sys

import msgspec
import numpy as np
import pytest
from loopback import NAMES, WORDS, config_of, participant, plan_of, text_trainer
from small_manifest import small_manifest

from edge.bundle.vectors import VECTORS_FILE, build_vectors, check_vectors, vectors_bytes
from edge.errors import BundleError
from models.corpus import Corpus, corpus_of
from models.errors import SegmenterError
from models.segmentation import icu_version
from models.text_sources import Message
from models.tokeniser import LATEST, is_unspaced, tokeniser_of
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from models.weights import ModelSize
from orchestrator.network.authority import make_keys
from orchestrator.network.errors import DemandRefused
from orchestrator.network.own_text import segmented
from orchestrator.network.server import setup_message
from orchestrator.run.identity import build_identity
from orchestrator.settings.files import config_digest, read_config

needs_icu = pytest.mark.skipif(icu_version() is None, reason="icu4py is not installed: see docs/data_formats.md")


def manifest_of():
    return msgspec.structs.replace(small_manifest({}, ModelSize(14, 3, 5), 8), tokeniser=2)


@pytest.fixture
def no_icu(monkeypatch):
    monkeypatch.setitem(sys.modules, "icu4py", None)  # an import of it fails


@pytest.fixture
def icu():
    return tokeniser_of(2, "icu")


def test_where_icu_is_missing_its_text_is_refused_in_one_line(no_icu, tmp_path):
    missing = "segmenter 'icu' cuts words by ICU, which is not installed: `pip install --no-deps icu4py` brings it"
    with pytest.raises(SegmenterError, match=missing):
        tokeniser_of(2, "icu")
    with pytest.raises(BundleError, match=f"the bundle's text can't be read here: {missing}"):
        _ = msgspec.structs.replace(manifest_of(), segmenter="icu").text_rules
    make_keys(tmp_path, [NAMES[0]])
    with pytest.raises(DemandRefused, match=f"the run's words can't be cut here: {missing}"):
        participant(tmp_path, NAMES[0]).answer(setup_message(config_of(**{"data.segmenter": "icu"}), WORDS))


def test_a_bundle_of_a_segmenter_that_nobody_knows_is_refused():
    with pytest.raises(BundleError, match=r"manifest\.json names the segmenter 'jieba': use the fedkeys that wrote it"):
        _ = msgspec.structs.replace(manifest_of(), segmenter="jieba").text_rules


def test_without_a_segmenter_nothing_changes():
    assert manifest_of().text_rules == tokeniser_of(2, "none") == LATEST
    assert b"segmenter" not in msgspec.json.encode(manifest_of())
    assert config_digest(read_config(overrides={"data.segmenter": "none"})) == config_digest(read_config())
    assert config_digest(read_config(overrides={"data.segmenter": "icu"})) != config_digest(read_config())


@needs_icu
@pytest.mark.parametrize(
    ("text", "words"),
    [
        # as a reader of the language cuts them: the weather is fine, let us go to the park; I am a student; hello
        ("今天天气真好，我们去公园吧！", "今天 天气 真好 我们 去 公园 吧"),
        ("私は学生です。", "私 は 学生 です"),
        ("สวัสดีครับ", "สวัสดี ครับ"),
        ("iPhone手机 is 3 years old", "iphone 手机 is 3 years old"),
        ("写信到ann@example.org或打801-555-0100", "写信 到 或 打"),
        ("한국어는 띄어쓰기를 한다", "한국어는 띄어쓰기를 한다"),  # has spaces: as it was
    ],
)
def test_words_that_icu_cuts(icu, text, words):
    assert " ".join(icu.words(icu.scrub(text))) == words
    assert icu.words(words) == words.split(), "tokenising again changes nothing"


@needs_icu
def test_other_scripts_are_cut_as_before(icu):
    plain = build_vectors(LATEST, Vocabulary((*SPECIAL_WORDS, "see")))
    for message in plain.messages:
        if not any(is_unspaced(word) for words in message.sentences for word in words):
            assert tuple(map(tuple, icu.sentences(message.text))) == message.sentences


@needs_icu
def test_a_network_client_trains_on_the_words_that_training_makes(icu, tmp_path):
    """It reads its text before it knows the run's segmenter, and cuts it when it does."""
    make_keys(tmp_path, [NAMES[0]])
    config, seen = config_of(**{"data.segmenter": "icu", "client.max_sentences": 10}), []
    words = Vocabulary((*SPECIAL_WORDS, "今天", "天气", "真好", "see", "you", "a", "b", "c", "d", "e"))

    def build(config, size):
        train = text_trainer(config, size)
        return lambda *work: (seen.append(work[-1].tokens), train(*work))[1]

    client = participant(tmp_path, NAMES[0], load_trainer=build)
    client._text = tuple(" ".join(own) for own in LATEST.sentences("今天天气真好. see you"))
    client.answer(setup_message(config, words))
    client.answer(plan_of(config))
    found = {tuple(row[row >= 4]) for batch in seen for step in np.atleast_3d(batch) for row in np.atleast_2d(step)}
    assert {(4, 5, 6), (7, 8)} <= {tuple(map(int, row)) for row in found}
    assert list(segmented(client._text, "icu")) == [" ".join(own) for own in icu.sentences("今天天气真好. see you")]


@needs_icu
def test_a_text_that_is_cut_is_not_warned_of(icu, caplog):
    typed = [Message("ann", "今天天气真好", 0)] * 3
    assert corpus_of("chat.jsonl", "chat.jsonl", typed, icu).clients["ann"].sentences == ("今天 天气 真好",) * 3
    assert not caplog.messages
    corpus_of("chat.jsonl", "chat.jsonl", typed)
    assert "set data.segmenter to 'icu'" in caplog.text


@needs_icu
def test_a_bundle_s_vectors_show_that_a_device_cuts_otherwise(icu):
    listed = Vocabulary((*SPECIAL_WORDS, "今天"))
    contents = {
        VECTORS_FILE: vectors_bytes(icu, listed),
        "vocabulary.txt": "".join(f"{word}\n" for word in listed.words).encode(),
    }
    assert "as tokeniser 2 reads them" in check_vectors(contents, icu)
    with pytest.raises(BundleError, match="has other words or ids here"):
        check_vectors(contents, LATEST)


@needs_icu
def test_a_run_notes_which_icu_cut_its_text():
    identity = build_identity(config_of(**{"data.segmenter": "icu"}), Corpus("texts", {}, "1" * 64), WORDS, 5)
    assert identity.versions["icu"] == icu_version()
    assert "icu" not in build_identity(config_of(), Corpus("texts", {}, "1" * 64), WORDS, 5).versions
