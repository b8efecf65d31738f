"""What a helper that lies to the server can do: end a round, and no more."""

from __future__ import annotations

import dataclasses

import pytest
from loopback import NAMES, WORDS, Peer, config_of, helping, serving
from split_round import changed

from orchestrator.network.helper import RemoteHelper
from orchestrator.run.identity import run_digest
from orchestrator.split import messages as split_messages

pytestmark = pytest.mark.timeout(60)


@dataclasses.dataclass
class LyingHelper:
    """Answers its first list with the right masks for another round."""

    honest: RemoteHelper
    lies: int = 1

    def open(self, request):
        answer = self.honest.open(request)
        self.lies -= 1
        return answer if self.lies < 0 else changed(answer, split_messages.MaskSum, request_sha256=bytes(32))


def test_a_helper_s_false_answer_ends_its_round_and_not_the_run(keys, tmp_path):
    config = config_of(num_rounds=2, **{"aggregation.aggregator": "split"})
    with helping(keys, tmp_path, run_digest(config, WORDS)) as (helpers, _):
        helpers = dataclasses.replace(helpers, remotes=[LyingHelper(own) for own in helpers.remotes])
        with serving(keys, tmp_path, config, helpers=helpers) as served:
            peers = [Peer(keys, served, name, aggregator="split") for name in NAMES]
        for peer in peers:
            peer.join()
    spoiled, next_one = served.rounds
    assert spoiled.reason.endswith("answer of helper 1 is to another list or round, or of another helper")
    assert next_one.outcome == "completed"
