"""Processes of the C library beside Python's clients: their sum is that of one process, to the last bit."""

from __future__ import annotations

import pytest
from c_peer import CClient, Refused, arm64_peer, peer_path
from loopback import (
    CROWD,
    NAMES,
    WORDS,
    Peer,
    config_of,
    first_state,
    helping,
    in_one_process,
    participant,
    plan_of,
    serving,
)

from orchestrator.aggregator import DropStage
from orchestrator.network.authority import make_keys
from orchestrator.network.server import setup_message
from orchestrator.rounds.round import weights_digest
from orchestrator.run.identity import run_digest

pytestmark = pytest.mark.timeout(120)
IN_C = CROWD[::2]  # five of ten
KILLED = {IN_C[1]: ("shares", DropStage.BEFORE_SHARES), IN_C[3]: ("upload", DropStage.BEFORE_UPLOAD)}
# One of each kind where half of the processes are for ARM64.
KILLED_OF_BOTH = {CROWD[1]: ("shares", DropStage.BEFORE_SHARES), CROWD[6]: ("upload", DropStage.BEFORE_UPLOAD)}


@pytest.fixture(scope="module", autouse=True)
def built():
    peer_path()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, CROWD)
    return folder


def config_of_all(num_rounds, aggregator="secagg"):
    return config_of(num_rounds, **{"rounds.cohort_size": len(CROWD), "aggregation.aggregator": aggregator})


def in_c(killed_at=None, command=None):
    """Builds a client that is a C process."""
    return lambda *given, **named: CClient(*given, killed_at=killed_at, command=command, **named)


def run(keys, path, num_rounds, kinds, killed=()):
    """The rounds' reports; every process of C that was not killed must end without a leak or an error of memory.

    Args:
      kinds: {the name of a client that is no Python: what builds it}.
      killed: the names of those that are killed on the way.
    """
    with serving(keys, path, config_of_all(num_rounds)) as served:
        peers = {name: Peer(keys, served, name, **({"kind": kinds[name]} if name in kinds else {})) for name in CROWD}
    for name, peer in peers.items():
        peer.join()
        if name in killed:
            assert isinstance(peer.error, BrokenPipeError), name
        else:
            assert (peer.error, peer.goodbye) == (None, "all done"), name
        if name in kinds:
            assert (peer._participant.peer.close() == 0) == (name not in killed)
    return served.rounds


def assert_sum_of_survivors(report, killed):
    """Passes if a run's only round summed all but the killed, to the bit of the plain sum in one process."""
    assert report.outcome == "completed", report.reason
    assert list(report.survivors) == [name for name in CROWD if name not in killed]
    drops = {name: drop for name, (_, drop) in killed.items()}
    state = plain_round(1, first_state(config_of_all(1)), report, drops)
    assert report.weights_sha256 == weights_digest(state.weights)


def plain_round(num_rounds, state, report, drops):
    return in_one_process(config_of_all(num_rounds, "plain"), state, report, drops)


def test_rounds_of_both_kinds_of_clients_give_the_plain_sum(keys, tmp_path):
    state = first_state(config_of_all(2))
    reports = run(keys, tmp_path, 2, dict.fromkeys(IN_C, in_c()))
    assert [list(report.survivors) for report in reports] == [list(CROWD)] * 2
    for report in reports:
        state = plain_round(2, state, report, {})
        assert report.weights_sha256 == weights_digest(state.model)


def test_two_processes_are_killed_and_the_sum_is_that_of_the_others(keys, tmp_path):
    kinds = {name: in_c(KILLED[name][0] if name in KILLED else None) for name in IN_C}
    (report,) = run(keys, tmp_path, 1, kinds, KILLED)
    assert_sum_of_survivors(report, KILLED)


def test_ten_processes_of_two_processors_are_a_round(keys, tmp_path):
    """Five of this machine's and five of ARM64, under qemu, over TLS; one of each is killed."""
    emulated = arm64_peer()
    stages = {name: KILLED_OF_BOTH[name][0] if name in KILLED_OF_BOTH else None for name in CROWD}
    kinds = {name: in_c(stages[name], None if name in IN_C else emulated) for name in CROWD}
    (report,) = run(keys, tmp_path, 1, kinds, KILLED_OF_BOTH)
    assert_sum_of_survivors(report, KILLED_OF_BOTH)


@pytest.mark.parametrize(("num_helpers", "killed"), [(1, None), (2, IN_C[1])])
def test_the_split_sum_of_both_kinds_of_clients_is_the_plain_sum(tmp_path, num_helpers, killed):
    """One message of each client, which helpers open that know only what Python's clients send."""
    folder, settings = tmp_path / "keys", {"aggregation.aggregator": "split", "aggregation.helpers": num_helpers}
    make_keys(folder, NAMES, num_helpers=num_helpers)
    config = config_of(1, **settings)
    stages = {killed: "train"} if killed else {}
    with helping(folder, tmp_path, run_digest(config, WORDS), num_helpers=num_helpers) as (helpers, _):
        with serving(folder, tmp_path, config, helpers=helpers) as served:
            kinds = {name: {"kind": in_c(stages.get(name))} if name in IN_C else {} for name in NAMES}
            peers = [Peer(folder, served, name, aggregator="split", **kinds[name]) for name in NAMES]
        for peer in peers:
            peer.join()
    assert [peer.goodbye for peer in peers] == [None if name == killed else "all done" for name in NAMES]
    (report,) = served.rounds
    assert list(report.survivors) == [name for name in NAMES if name != killed]
    plain = config_of(1, **{"aggregation.aggregator": "plain"})
    drops = {killed: DropStage.BEFORE_UPLOAD} if killed else {}
    assert report.weights_sha256 == weights_digest(in_one_process(plain, first_state(config), report, drops).weights)
    ended = {peer._name: peer._participant.peer.close() for peer in peers if peer._name in IN_C}
    assert {name for name, code in ended.items() if code} == set(stages)


def test_a_c_client_refuses_what_python_s_client_refuses(keys):
    client = participant(keys, CROWD[0], kind=in_c())
    client.answer(setup_message(config_of_all(1), WORDS))
    client.answer(plan_of(config_of_all(1)))
    with pytest.raises(Refused, match="^round 1 came before") as caught:
        client.answer(plan_of(config_of_all(1)))
    assert caught.value.name == "SessionReplayed"
    assert client.peer.close() == 0
