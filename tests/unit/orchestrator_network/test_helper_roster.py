"""A helper of the split sum goes by the newest roster in its folder: phones enrol while it waits."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from loopback import NAMES, WORDS, Peer, config_of, helping, serving

from models.corpus import ClientId
from orchestrator.errors import BelowThreshold
from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import read_roster, write_roster
from orchestrator.run.identity import run_digest

pytestmark = pytest.mark.timeout(60)
SPLIT = {"aggregation.aggregator": "split"}


def test_a_helper_that_waits_knows_who_enrols_meanwhile_and_takes_no_older_roster(tmp_path):
    keys, config = tmp_path / "keys", config_of(**SPLIT)
    make_keys(keys, NAMES)
    whole = read_roster(keys)
    write_roster(keys, {name: key for name, key in whole.items() if name != NAMES[5]})
    old = (keys / "roster.json").read_bytes()
    with helping(keys, tmp_path, run_digest(config, WORDS)) as (helpers, _):
        write_roster(keys, whole)  # as when a lobby closes
        with serving(keys, tmp_path, config, helpers=helpers) as served:
            peers = [Peer(keys, served, name, aggregator="split") for name in NAMES]
        assert all(peer.join().goodbye for peer in peers)
        assert list(served.rounds[0].survivors) == list(NAMES)
        (keys / "roster.json").write_bytes(old)
        with pytest.raises(BelowThreshold, match="the roster is number 2, this client has seen number 3"):
            helpers.remotes[0].open(b"")


def test_a_helper_s_own_minimum_grows_with_the_roster(tmp_path):
    """Of 60 enrolled three may be corrupt: the masks of a list of four would show the fourth's vector to them."""
    keys, config = tmp_path / "keys", config_of(**SPLIT)
    make_keys(keys, NAMES)
    drops = {name: {"train": "hang up"} for name in NAMES[4:]}
    with helping(keys, tmp_path, run_digest(config, WORDS), min_contributions=None) as (helpers, notes):
        crowd = {ClientId(f"more{n}"): Ed25519PrivateKey.generate().public_key().public_bytes_raw() for n in range(54)}
        write_roster(keys, {**read_roster(keys), **crowd})
        with serving(keys, tmp_path, config, helpers=helpers) as served:
            peers = [Peer(keys, served, name, drops.get(name), aggregator="split") for name in NAMES]
        for peer in peers:
            peer.join()
    assert served.rounds[0].outcome != "completed"
    assert any("a list of 4 clients, 5 needed" in note for note in notes), notes
