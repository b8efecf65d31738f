"""Attacks by a server that shows each client survivors and deliveries of its choice, on the complete graph."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from lying_server import LyingServer

from orchestrator.secagg import Policy
from orchestrator.secagg.errors import SecAggError, TooFewPeers
from orchestrator.secagg.graph import graph_parameters


def _lie(rng, num_clients, policy) -> tuple[set[int], list[int], bool]:
    """One session: up to two sets of survivors, each client told one of them after a delivery of some shares, all
    consents forwarded to whoever may take them.

    Returns (clients of whom the server has both secrets, the sizes of the crowds whose sums it can read, whether it
    told two sets and got something nevertheless).
    """
    server = LyingServer(num_clients, range(num_clients), policy)
    everyone, threshold = set(range(num_clients)), server.threshold
    for index in everyone:
        server.show_roster(index, everyone - {index})
    sizes = rng.integers(threshold + 1, num_clients + 1, 2)
    views = [frozenset(rng.permutation(num_clients)[:size].tolist()) for size in sizes]
    peers, told, consents = {}, {}, {}
    for index in everyone:
        told[index] = view = views[int(rng.random() < 0.4)]
        others = rng.permutation(sorted(everyone - view - {index})).tolist()
        spare = others[: rng.integers(0, len(others) + 1)]
        peers[index] = (view | set(spare)) - {index}  # the client insists on its survivors' shares
        server.deliver(index, peers[index])
        with contextlib.suppress(SecAggError):
            consents[index] = server.show_survivors(index, view)
    seed_holders, key_holders = {i: set() for i in everyone}, {i: set() for i in everyone}
    for index in consents:
        view = told[index]
        same = {i: consents[i] for i in peers[index] & view & consents.keys() if told[i] == view}
        try:
            got = server.unmask(index, same, sorted(peers[index] & view), sorted(peers[index] - view))
        except TooFewPeers:
            continue
        for share in got.seed_shares:
            seed_holders[share.owner].add(index)
        for share in got.key_shares:
            key_holders[share.owner].add(index)
    seed_known = {i for i in everyone if len(seed_holders[i]) >= threshold}
    key_known = {i for i in everyone if len(key_holders[i]) >= threshold}
    sizes = _readable_crowds({i: peers[i] - key_known for i in everyone}, seed_known)
    return seed_known & key_known, sizes, bool(seed_known) and len({told[i] for i in consents}) > 1


def _readable_crowds(masked_with, seed_known) -> list[int]:
    """The sizes of the sets of clients whose masks cancel within: each one's sum can be read.

    masked_with: {client: those with whom it shares a mask that can't be recovered}, as the client itself had it.
    """
    sizes = []
    for target in seed_known:
        crowd, todo = {target}, [target]
        while todo:
            found = masked_with[todo.pop()] - crowd
            crowd |= found
            todo += found
        cancels = all(index in masked_with[other] for index in crowd for other in masked_with[index])
        if cancels and crowd <= seed_known:
            sizes.append(len(crowd))
    return sizes


@pytest.mark.parametrize("num_clients", [5, 8])
def test_no_mixture_of_views_gives_both_secrets_of_one_or_the_sum_of_too_few(num_clients):
    """60 sessions each. By the shares that it gets, the server never has both secrets of a client, and what it can
    read is a sum of at least threshold + 1."""
    rng, got_something = np.random.default_rng(num_clients), 0
    least = graph_parameters(num_clients, Policy()).threshold + 1
    for _ in range(60):
        both, crowds, lied = _lie(rng, num_clients, Policy())
        assert not both
        assert min(crowds, default=least) >= least
        got_something += lied
    assert got_something >= 5  # lies that were not all refused


def test_a_lower_threshold_would_not_withstand_that():
    """The same server against the threshold that trusts it: it gets both secrets of someone."""
    rng, policy = np.random.default_rng(1), Policy(semi_malicious=False)
    assert any(_lie(rng, 8, policy)[0] for _ in range(60))
