"""The sum over real connections keeps the aggregators' contract: TLS on loopback, one thread and stream a client.

Each client is the product's own, except that it is given its vector where it would train. Clients vanish by hanging up.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from loopback import helping

from models.corpus import ClientId
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.aggregator import Cohort, DropStage
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic.parameters import DEFAULT_PARAMETERS
from orchestrator.network import messages
from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import SERVER, read_decryptor, read_helpers, read_identity, read_roster
from orchestrator.network.channel import Link, open_channel
from orchestrator.network.client import Participant
from orchestrator.network.decryptor import RemoteDecryptor, decryptor_service
from orchestrator.network.demands import Demands
from orchestrator.network.hub import Hub
from orchestrator.network.journal import Journal
from orchestrator.network.network_sum import PROTOCOLS, NetworkSum
from orchestrator.network.pace import Pace
from orchestrator.network.server import setup_message
from orchestrator.network.session import Deadlines, Party, Session
from orchestrator.network.suspects import Suspects
from orchestrator.network.tls import Tls
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.sums import SUMS, secagg_policy
from orchestrator.run.identity import run_digest
from orchestrator.settings.files import read_config
from orchestrator.settings.sections import AggregationConfig

pytestmark = pytest.mark.timeout(120)

NUM_CLIENTS, NUM_SLOTS = 7, 33
MEMBERS = tuple(ClientId(f"client-{i}") for i in range(NUM_CLIENTS))
COHORT = Cohort(round_num=4, members=MEMBERS, min_survivors=3)
WAIT = Deadlines(clients_s=60.0, train_s=60.0, stage_s=60.0)
WORDS = Vocabulary((*SPECIAL_WORDS, "see", "you"))
# The stage whose message finds a client gone that drops out then. The encrypted sum has one stage after training, the
# split sum has none.
GONE_AT = {
    "secagg": {
        DropStage.BEFORE_SHARES: "shares",
        DropStage.BEFORE_UPLOAD: "upload",
        DropStage.BEFORE_UNMASK: "consistency",
    },
    "encrypted": {DropStage.BEFORE_SHARES: "train", DropStage.BEFORE_UPLOAD: "encrypt"},
    "split": {DropStage.BEFORE_SHARES: "train", DropStage.BEFORE_UPLOAD: "train"},
}


class GivenVector(Participant):
    """A client that takes the vector that it is given in place of training."""

    given = None

    def _train(self, plan):
        self._round_num = plan.round_num
        if plan.terms:
            return self._mask(plan, self.given)
        self._vector = self.given.copy()
        return b""


class OverLoopback:
    """Sums by NetworkSum: opens a port, connects a client for each member and closes all of it after the sum."""

    def __init__(self, name, keys):
        self.name, self._keys = name, keys
        self._settings = AggregationConfig(aggregator=name, helpers=2)

    def sum(self, vectors, cohort, drops):
        given = dict(vectors)
        gone_at = {member: GONE_AT[self.name].get(stage, "") for member, stage in drops.items()}
        gone_at |= {member: "train" for member in cohort.members if member not in given}
        with ExitStack() as stack:
            config = read_config(overrides={"aggregation.aggregator": self.name, "aggregation.helpers": 2})
            hub = Hub(read_roster(self._keys), setup_message(config, WORDS), 1 << 20)
            address = f"localhost:{hub.listen('localhost:0', Tls.of_role(self._keys, SERVER))}"
            stack.callback(hub.stop, "the sum is done")
            threads = [
                threading.Thread(
                    target=self._run_client, args=(address, member, given.get(member), gone_at.get(member))
                )
                for member in cohort.members
            ]
            for thread in threads:
                thread.start()
            num = len(cohort.members)
            connections = {c.client_id: c for c in hub.wait_for_clients(num, num, WAIT.clients_s)}
            helpers = self._helpers(stack, config, cohort)
            party = Party(hub, read_roster(self._keys), WAIT, print, self._decryptor(stack, cohort), helpers)
            session = Session(party, [connections[member] for member in cohort.members], cohort.round_num)
            plan = messages.Plan(cohort.round_num, 1.0, memoryview(b""))
            network_sum = NetworkSum(
                self._settings, party, session, plan, NUM_SLOTS, lambda total, num_summed: None, Suspects()
            )
            result = network_sum.sum(iter(()), cohort, {})
        for thread in threads:
            thread.join(WAIT.stage_s)
            assert not thread.is_alive()
        return result

    def _decryptor(self, stack, cohort):
        if not SUMS[self.name].needs_decryptor:
            return None
        service = decryptor_service(self._keys, DEFAULT_PARAMETERS, cohort.min_survivors, lambda note: None)
        address = f"localhost:{service.listen('localhost:0')}"
        stack.callback(service.stop)
        return RemoteDecryptor(address, self._keys)

    def _helpers(self, stack, config, cohort):
        if not SUMS[self.name].needs_helpers:
            return None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run, num_helpers = run_digest(config, WORDS), self._settings.helpers
        return stack.enter_context(helping(self._keys, folder, run, cohort.min_survivors, num_helpers))[0]

    def _run_client(self, address, name, vector, gone_at):
        keys, identity = self._keys, read_identity(self._keys, name)
        client = GivenVector(
            name,
            identity,
            frozenset(read_roster(keys).values()),
            Demands(secagg_policy(self._settings), self.name),
            ("see you",),
            Journal(None),
            Pace(0.0, print),
            read_decryptor(keys),
            lambda config, size: None,
            read_helpers(keys) if self.name == "split" else (),
        )
        client.given = vector
        tls = Tls.of_client(keys, name)
        with open_channel(address, tls) as channel, Link(channel, address, name, identity) as link:
            for message in link:
                if gone_at and gone_at == stage_of(message):
                    return
                answer = client.answer(message)
                if client.goodbye is not None:
                    return
                if answer is not None:
                    link.send(answer)


def stage_of(message):
    found = messages.decode(message, messages.TO_CLIENT)
    return "train" if isinstance(found, messages.Plan) else getattr(found, "stage", "")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, MEMBERS, num_helpers=2)
    return folder


@pytest.fixture(params=PROTOCOLS)
def over_loopback(request, keys):
    return OverLoopback(request.param, keys)


@pytest.fixture
def vectors():
    rng = np.random.default_rng(2)
    return {member: rng.integers(0, 2**32, NUM_SLOTS, dtype=np.uint32) for member in MEMBERS}


def _sum_of(vectors, members):
    return np.sum([vectors[member] for member in members], axis=0, dtype=np.uint64).astype(np.uint32)


def test_all_secure_sums_have_a_protocol():
    assert set(PROTOCOLS) == {"secagg", "encrypted", "split"} < set(SUMS)


@pytest.mark.parametrize("stage", DropStage)
@pytest.mark.parametrize("place", [0, 3])
def test_the_sum_is_that_of_the_survivors(over_loopback, vectors, stage, place):
    drops = {MEMBERS[place]: stage}
    result = over_loopback.sum(iter(vectors.items()), COHORT, drops)
    counts = stage in (DropStage.NONE, DropStage.BEFORE_UNMASK)
    expected = MEMBERS if counts else MEMBERS[:place] + MEMBERS[place + 1 :]
    assert result.survivors == expected
    assert result.total.dtype == np.uint32
    assert np.array_equal(result.total, _sum_of(vectors, expected))


def test_it_is_the_same_as_in_one_process(over_loopback, vectors):
    drops = {MEMBERS[1]: DropStage.BEFORE_UPLOAD, MEMBERS[4]: DropStage.BEFORE_UNMASK}
    here = build_aggregator(AggregationConfig(aggregator=over_loopback.name)).sum(iter(vectors.items()), COHORT, drops)
    there = over_loopback.sum(iter(vectors.items()), COHORT, drops)
    assert there.survivors == here.survivors
    assert np.array_equal(there.total, here.total)


def test_a_member_without_a_vector_is_a_drop_out(over_loopback, vectors):
    some = {member: vector for member, vector in vectors.items() if member != MEMBERS[5]}
    result = over_loopback.sum(iter(some.items()), COHORT, {})
    assert result.survivors == tuple(some)
    assert np.array_equal(result.total, _sum_of(vectors, some))


def test_the_extremes_add_up(over_loopback):
    vectors = {member: np.full(NUM_SLOTS, 2**32 - 1, np.uint32) for member in MEMBERS}
    assert set(over_loopback.sum(iter(vectors.items()), COHORT, {}).total) == {2**32 - NUM_CLIENTS}


def test_fewer_than_the_minimum_is_no_sum(over_loopback, vectors):
    cohort = Cohort(round_num=4, members=MEMBERS, min_survivors=NUM_CLIENTS)
    with pytest.raises(BelowThreshold, match=r"^round 4: .* needed$"):
        over_loopback.sum(iter(vectors.items()), cohort, {MEMBERS[2]: DropStage.BEFORE_UPLOAD})


def test_everybody_gone_is_no_sum(over_loopback, vectors):
    with pytest.raises(BelowThreshold):
        over_loopback.sum(iter(vectors.items()), COHORT, dict.fromkeys(MEMBERS, DropStage.BEFORE_UPLOAD))


def test_the_bill_has_what_was_sent(over_loopback, vectors):
    cost = over_loopback.sum(iter(vectors.items()), COHORT, {}).cost
    assert sum(entry.bytes_up for entry in cost.per_client.values()) >= 4 * NUM_SLOTS
    assert sum(entry.bytes_down for entry in cost.server.values()) >= NUM_CLIENTS * 4 * NUM_SLOTS
