"""The page in Chromium, used as a person with a phone does: it predicts, keeps, trains, checks and forgets."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess

import pytest
from web_browser import WEB, built_page_and_browser
from web_bundle import BATCH, build_web_bundle, serving

from edge.clients.web_page import page_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """What a visit saw, and what the server was asked for."""
    page, browser = built_page_and_browser()
    folder = tmp_path_factory.mktemp("web")
    bundle = build_web_bundle(folder / "bundle", folder / "key")
    with serving(page, bundle) as (url, asked):
        command = ["node", WEB / "tests" / "visit.mjs", url, browser]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), asked


def test_words_are_suggested_completed_and_taken_by_tap_and_by_key(visit):
    write = visit[0]["write"]
    assert visit[0]["ready"] == "Ready"
    assert len(set(write["after"]) - {""}) == 3
    assert write["half"][0] == "zebrafish"  # the only word that begins so
    assert write["taken"] == "see zebrafish "
    assert write["byKey"] in ("Do ", "Dog ")  # with the capital that was typed


def test_what_was_written_is_kept_as_the_model_reads_it(visit):
    keep = visit[0]["keep"]
    assert keep["listed"] == ["mail", "i like zebrafish"]
    assert keep["imported"] == "1,000 sentences were imported."
    assert keep["count"] == "1,000"  # the cap: the two from before have gone


def test_of_a_chat_only_the_messages_of_whom_the_person_chose_are_kept(visit):
    chat = visit[0]["keep"]["chat"]
    assert chat["names"] == ["Choose your name …", "Ann (3 messages)", f"Bob {'B' * 50} (2 messages)"]
    assert chat["over"] == 0, "a long name fits a phone"
    assert chat["unchosen"] == ""
    assert chat["outcome"] == "2 sentences were imported."
    assert chat["own"][:2] == ["good morning", "see you"]
    assert not {"the cat", "how"} & set(chat["own"])
    assert chat["packed"].startswith("This file is packed")


def test_training_makes_held_out_sentences_better_predicted(visit):
    train = visit[0]["train"]
    assert train["end"] == "The training is done."
    before, words, after = map(int, re.findall(r"Before: (\d+) right of (\d+) words, now (\d+)\.", train["line"])[0])
    assert before < after <= words
    assert "Suggestions now come from your model." in train["note"]


def test_the_model_is_checked_on_the_device(visit):
    check = visit[0]["check"]
    assert check["states"] == ["good"] * 4
    mantissa, exponent = re.search(r"largest difference of a weight is (\S+)\s×\s10(\S+);", check["rows"][3]).groups()
    largest = float(mantissa) * 10.0 ** int(exponent.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    assert 0.0 < largest < 1e-5
    listed = json.loads((page_folder() / "files.json").read_text())
    lines = "".join(f"{listed[name]}  {name}\n" for name in sorted(listed))
    assert check["digest"] == hashlib.sha256(lines.encode()).hexdigest()


def test_the_measured_speed_is_saved_as_json(visit):
    speed = visit[0]["speed"]
    assert [step["sentences"] for step in speed["train_step_ms"]] == [1, BATCH]
    assert {stroke["model"] for stroke in speed["key_stroke_ms"]} == {"infer.tflite", "train.tflite"}
    assert all(0 < row["p50"] <= row["p90"] <= row["p99"] for row in speed["train_step_ms"] + speed["key_stroke_ms"])


def test_after_the_first_visit_it_works_offline_with_the_trained_model(visit):
    assert visit[0]["offline"]["status"] == "Ready, offline"
    assert "you" in visit[0]["offline"]["after"]  # "how are you" came 250 times
    assert visit[0]["offline"]["after"] != visit[0]["write"]["after"]


def test_the_cache_holds_the_files_of_one_bundle(visit):
    names = [re.search(r"/bundle/([^?]+)", url)[1] for url in visit[0]["offline"]["cached"]]
    assert {"manifest.json", "SIGNATURE", "infer.tflite", "train.tflite"} <= set(names)
    assert len(names) == len(set(names))


def test_deleting_and_keeping_nothing_leave_no_sentence(visit):
    forget = visit[0]["forget"]
    assert forget["status"] == "Ready"  # without the model that was trained on them
    assert forget["outcome"] == "All sentences and the model trained on them are deleted."
    assert forget["inside"] == []
    assert forget["off"] == "Nothing was kept: you switched that off under Words."


def test_no_request_holds_a_typed_word_or_goes_elsewhere(visit):
    seen, asked = visit
    hosts = {re.match(r"[a-z]+://[^/]+/|blob:", request["url"])[0] for request in seen["requests"]}
    assert len(hosts - {"blob:"}) == 1
    assert all(request["method"] == "GET" and request["body"] == "" for request in seen["requests"])
    assert any(entry.startswith("/bundle/manifest.json") for entry in asked)
    sent = "\n".join(asked) + json.dumps(seen["requests"])
    for word in ("zebrafish", "dog", "ann"):
        assert re.search(rf"\b{word}\b", sent) is None


def test_the_page_keeps_to_its_policy_and_has_no_error(visit):
    assert visit[0]["violations"] == 0
    assert visit[0]["errors"] == []


def test_it_fits_a_phone_and_can_be_used_without_seeing(visit):
    assert visit[0]["wide"] == []
    assert visit[0]["access"] == {"nameless": [], "focused": "H1part-train"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("insecure", "needs a secure connection"),
        ("oldBrowser", "too old for the rules"),
        ("noSimd", "lacks WebAssembly SIMD"),
        ("noCurves", "lacks Ed25519 or X25519"),
        ("storageRefused", "refuses storage"),
        ("bundleMissing", "There is no model here"),
        ("bundleDamaged", "damaged or was changed (SIGNATURE)"),
        ("bundleNetwork", "of the kind keras, which this page can't train"),
        ("bundleNewer", "of a newer kind (2)"),
        ("bundleKey", "signed by another key"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(visit, fault, words):
    said = visit[0]["faults"][fault]
    assert words in said
    assert said.index(".") == len(said) - 1
