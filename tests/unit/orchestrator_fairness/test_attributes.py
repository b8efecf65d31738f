"""What people are grouped by: features in thirds, files of groups, a fleet's devices."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from models.corpus import ClientText
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.errors import FairnessError
from orchestrator.fairness import attributes
from orchestrator.fairness.attributes import Feature, Labels


def test_thirds_are_cut_where_the_histogram_says():
    bins = {f"u{i}": i // 2 for i in range(30)}
    labels = attributes.thirds(Feature("x", "", 20, bins, str), np.bincount(list(bins.values()), minlength=20))
    assert np.bincount(list(labels.group_of.values())).tolist() == [10, 10, 10]
    everyone_alike = attributes.thirds(Feature("x", "", 3, {"u": 1}, str), np.array([0, 7, 0]))
    assert everyone_alike.groups == ("everybody",)
    assert everyone_alike.group_of == {"u": 0}


def test_features_come_from_the_clients_own_text():
    vocabulary = Vocabulary(SPECIAL_WORDS + tuple(f"w{i}" for i in range(1500)))
    text = ClientText("u", ("w0 w1 w999", "w1000 never"), (None, None))
    assert attributes.vocabulary_distance({"u": text}, vocabulary).bin_of == {"u": 80}  # two words of five: 40 %
    assert attributes.activity({"u": text}).bin_of == {"u": 9}  # 4 log2(5) = 9.29


def test_a_groups_file_labels_people(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("client_id,age,city\na,30,x\nb,9,\n")
    age, city = attributes.read_groups(path, ["a", "b", "c"], ["a", "b", "c"])
    assert age.groups == ("9", "30", attributes.NOT_GIVEN)
    assert age.group_of == {"a": 1, "b": 0, "c": 2}
    assert city.groups == ("x", attributes.NOT_GIVEN)
    as_json = tmp_path / "groups.json"
    as_json.write_text(json.dumps({"a": {"age": 30}, "b": {"age": 9}}))
    assert attributes.read_groups(as_json, "abc", "abc") == [
        Labels("age", "age, from groups.json", age.groups, age.group_of)
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.csv", "client_id,age\na,1\nzoe,2\n", "names 1 clients that the run's text has not, the first 'zoe'"),
        ("g.csv", "person,age\na,1\n", "line 1: must name the columns, one of them client_id"),
        ("g.csv", "client_id,age\na,1\na,2\n", "'a' is there twice"),
        ("g.csv", "client_id,age\na\n", "must have as many columns as line 1"),
        ("g.csv", "client_id\na\n", "has no groups"),
        ("g.json", "[1]", "write {"),
        ("g.csv", b"client_id,age\na,\xff\n", "is not UTF-8"),
        (None, "", "can't be read"),
    ],
)
def test_a_bad_groups_file_is_refused_in_one_line(tmp_path, name, content, message):
    path = tmp_path / (name or "missing.csv")
    if name:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FairnessError) as caught:
        attributes.read_groups(path, ["a", "b"], ["a", "b"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_no_groups(tmp_path):
    path = tmp_path / "g.csv"
    people = [f"u{i}" for i in range(50)]
    path.write_text("client_id,name\n" + "".join(f"{p},{p}\n" for p in people))
    with pytest.raises(FairnessError, match="put them together"):
        attributes.read_groups(path, people, people)


def test_devices_of_a_fleet_become_attributes(tmp_path):
    path = tmp_path / "fleet_devices.json"
    path.write_bytes(msgspec.json.encode({"a": {"tier": "low", "access": "wifi", "time_zone": -7}}))
    tier, network, zone = attributes.read_devices(path, ["a", "b"])
    assert (tier.name, network.name, zone.name) == ("device tier", "network", "time zone")
    assert zone.groups == ("-7", attributes.NOT_GIVEN)
    assert tier.says_something(["a", "b"])
    assert not tier.says_something(["b"])  # a fleet knows training people only
