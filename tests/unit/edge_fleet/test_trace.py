"""Traces of measured fleets: what is read, and what is refused in one line that names the field and the value."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from edge.errors import FleetError
from edge.fleet.trace import read_trace
from orchestrator.fleet.plan import plan_fleet
from orchestrator.settings.files import read_config
from orchestrator.settings.fleet import FLEET_PRESETS


def written(tmp_path, content, name="trace.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def behaviour(active=(0, 5000), inactive=(4000, 9000), finish_time=86_400):
    return {"active": list(active), "inactive": list(inactive), "finish_time": finish_time, "duration": 1, "model": "x"}


def test_a_behaviour_table_drives_the_fleet(tmp_path):
    path = written(tmp_path, {str(i): behaviour() for i in range(50)})
    config = read_config(
        preset="gboard-2018",
        overrides={"fleet.trace": str(path), "fleet.devices": 100, "rounds.cohort_size": 5},
        presets=FLEET_PRESETS,
    )
    done = plan_fleet(config, 6)
    eligible = done.simulation.check_ins.eligible_curve(6)
    allowed = int(done.simulation.fleet.allowed.sum())
    assert eligible[0] == allowed
    assert eligible[3] == 0
    assert done.rounds
    assert all(r.started_s < 9000 for r in done.rounds)


def test_a_capacity_table(tmp_path):
    trace = read_trace(written(tmp_path, {"7": {"computation": 162.0, "communication": 5648.1}}))
    assert (trace.names, trace.sessions) == (("7",), None)
    np.testing.assert_allclose([*trace.ms_per_sample, *trace.kbit_per_s], [162.0, 5648.1], rtol=1e-6)


def test_state_traces_are_eligible_when_charging_on_wifi_with_the_screen_off(tmp_path):
    lines = ["2020-03-01 07:00:00\twifi", "2020-03-01 07:10:00\tbattery_charged_on", "2020-03-01 07:20:00\tscreen_on",
             "2020-03-01 07:30:00\tscreen_off", "2020-03-01 08:00:00\t4G"]  # fmt: skip
    sessions = read_trace(written(tmp_path, {"a": {"messages": "\n".join(lines)}})).sessions
    assert sessions.starts.tolist() == [600.0, 1800.0]
    assert sessions.ends.tolist() == [1200.0, 3600.0]


def test_csv(tmp_path):
    path = written(tmp_path, b"device,start_s,end_s\nb,10,20\na,0,5\nb,30,40\n", "trace.csv")
    trace = read_trace(path)
    assert trace.names == ("a", "b")
    assert trace.sessions.devices.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ({}, "t.json", "holds no device"),
        ([], "t.json", "must be an object of devices"),
        ({"a": {"x": 1}}, "t.json", "device a has none of computation, active, messages"),
        ({"a": {"active": [0], "inactive": [1]}}, "t.json", "device a has no finish_time"),
        ({"a": behaviour(), "b": {"active": [1]}}, "t.json", "device b has no finish_time"),
        ({"a": behaviour(active=[-3])}, "t.json", "device a has active = -3, must not be negative"),
        ({"a": behaviour(active=[0, 5], inactive=[9])}, "t.json", r"overlapping intervals \(0.0, 9.0\), \(5.0, 9.0\)"),
        ({"a": {"computation": "fast", "communication": 1}}, "t.json", "computation = 'fast'"),
        ({"a": {"messages": "2020-03-01 07:00:00\tflying"}}, "t.json", "unknown state 'flying'"),
        (b"device,start_s\na,1\n", "t.csv", "has no column end_s"),
        (b"device,start_s,end_s\na,1,x\n", "t.csv", "line 2: end_s = 'x' is not a number"),
        (b"device,start_s,end_s\na,1,9\na,5,20\n", "t.csv", "device a has the overlapping intervals"),
        (b"device,start_s,end_s\na,9,1\n", "t.csv", "end_s = 1.0 at or before its start"),
        (b"device,start_s,end_s\n", "t.csv", "holds no device"),
        (pickle.dumps({"a": 1}), "t.json", "is a pickle, and reading one runs whatever code is in it"),
        (b"\xff\xfe", "t.json", "is neither JSON nor CSV"),
    ],
)
def test_what_is_refused(tmp_path, content, name, message):
    with pytest.raises(FleetError, match=message) as caught:
        read_trace(written(tmp_path, content, name))
    assert "\n" not in str(caught.value)
