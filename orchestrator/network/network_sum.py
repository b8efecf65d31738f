"""The sum of one round over the network: the server's side of each protocol, and what it does about liars."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from models.corpus import ClientId
from orchestrator.aggregator import AggregateResult, Cohort, DropStage, StageCost, Vector
from orchestrator.errors import BelowThreshold, ImplausibleSum
from orchestrator.homomorphic.aggregator import CiphertextAggregator
from orchestrator.homomorphic.errors import SpoiledSum
from orchestrator.network import messages
from orchestrator.network.session import Helpers, Party, Session
from orchestrator.network.suspects import Suspects
from orchestrator.rounds.sums import secagg_policy
from orchestrator.secagg.errors import ClientRefused, RecoveryFailed, WeakParameters
from orchestrator.secagg.graph import Policy, graph_parameters
from orchestrator.secagg.server import Outbox
from orchestrator.secagg.server import Server as SecAggServer
from orchestrator.settings.sections import AggregationConfig
from orchestrator.split.aggregator import MaskedAggregator
from orchestrator.split.errors import ForeignRound, MalformedMessage, SeedRefused
from orchestrator.split.messages import RoundTerms, helpers_digest
from orchestrator.wire import as_one_line, encode


class NetworkSum:
    """Sums one round's vectors, which the clients make and protect on their own machines; an Aggregator.

    Args:
      aggregation: the run's settings; its `aggregator` is a key of PROTOCOLS.
      party: connections, roster, deadlines, the decryptor of the encrypted sum, the helpers of the split sum.
      session: the round's conversations.
      plan: of the round; the split sum adds its terms.
      num_slots: the length of a vector.
      check_sum: raises ImplausibleSum if the number of honest vectors can't give the sum; see Encoder.check_sum.
      suspects: what the server knows about who spoils its sums; this sum adds to it.
    """

    def __init__(
        self,
        aggregation: AggregationConfig,
        party: Party,
        session: Session,
        plan: messages.Plan,
        num_slots: int,
        check_sum: Callable[[Vector, int], None],
        suspects: Suspects,
    ):
        self.name: str = aggregation.aggregator
        self._aggregation, self._party, self._session = aggregation, party, session
        self._plan, self._num_slots, self._check_sum, self._suspects = plan, num_slots, check_sum, suspects
        self._num_sums = 0  # in this round: each group of the cohort has one

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """See Aggregator.sum. Takes no vector from `vectors` and reads no `drops`: clients send theirs, or vanish."""
        result = PROTOCOLS[self.name](self, cohort)
        try:
            self._check_sum(result.total, len(result.survivors))
        except ImplausibleSum as error:  # a client's lie ends the round, not the run
            self._look_for_spoiler(result.survivors, cohort.round_num)
            raise BelowThreshold(f"round {cohort.round_num}: {error}") from None
        self._suspects.summed(result.survivors)
        return result

    def _secagg(self, cohort: Cohort) -> AggregateResult:
        policy, session, plan = secagg_policy(self._aggregation), self._session, encode(self._plan)
        trained = session.train(plan, cohort.members)
        members = self._suspects.most_doubtful(trained, largest_cohort(len(trained), policy))
        if len(members) < cohort.min_survivors:
            raise BelowThreshold(f"round {cohort.round_num}: {len(trained)} clients trained, too few to hide in")
        identities, places = [self._party.roster[m] for m in members], {m: i for i, m in enumerate(members)}
        server = SecAggServer(
            identities,
            self._num_slots,
            policy,
            cohort.round_num,
            cohort.min_survivors,
            os.cpu_count() or 1,
            messages.agreed_digest(self._party.hub.setup, plan),
        )

        def take(member: ClientId, body: bytes) -> None:
            server.receive(places[member], body)

        for stage, open_stage in (
            ("advertise", server.invitations),
            ("shares", server.rosters),
            ("upload", server.deliveries),
            ("consistency", server.survivors),
            ("unmask", server.requests),
        ):
            session.ask(stage, partial(_by_name, members, open_stage), take)
        try:
            with session.metered("unmask"):
                total, alive = server.total()
        except RecoveryFailed as error:  # a client's lie ends the round, not the run
            owner, accusers = members[error.owner], [members[index] for index in error.accusers]
            if accusers and len(accusers) <= math.ceil(policy.corrupt_share * len(members)):
                self._look_for_spoiler([owner, *accusers], cohort.round_num)
            else:
                self._strike(owner, cohort.round_num, "deals shares that recover nothing")
            raise BelowThreshold(f"round {cohort.round_num}: {owner}: {error}") from None
        return AggregateResult(total, tuple(members[index] for index in alive), session.ledger())

    def _encrypted(self, cohort: Cohort) -> AggregateResult:
        decryptor, session, plan = self._party.decryptor, self._session, encode(self._plan)
        assert decryptor is not None
        trained = session.train(plan, cohort.members)
        terms = decryptor.open_round(cohort.round_num, self._num_slots)
        aggregator = CiphertextAggregator(
            terms, decryptor.identity, self._party.roster, messages.agreed_digest(self._party.hub.setup, plan)
        )

        def take(member: ClientId, body: bytes) -> None:
            upload = aggregator.check(body)
            if upload.contribution.client_id != member:
                raise ClientRefused(f"it sent an upload of {as_one_line(upload.contribution.client_id)}")
            aggregator.add(upload)
            summed.add(member)

        summed: set[ClientId] = set()
        session.ask("encrypt", lambda: ((member, terms) for member in trained), take)
        with session.metered("encrypt"):
            total, transcript = aggregator.finish()
        try:
            vector = decryptor.decrypt(total, transcript)
        except SpoiledSum as error:  # a client's lie ends the round, not the run
            self._look_for_spoiler(sorted(summed), cohort.round_num)
            raise BelowThreshold(str(error)) from None
        if vector.shape != (self._num_slots,):
            raise BelowThreshold(f"the decryptor sent a sum of {vector.size} words, {self._num_slots} expected")
        bill = {
            "key": StageCost(bytes_up=len(terms)),
            "decrypt": StageCost(bytes_up=vector.nbytes, bytes_down=len(total) + len(transcript)),
        }
        return AggregateResult(vector, tuple(m for m in trained if m in summed), session.ledger(bill))

    def _split(self, cohort: Cohort) -> AggregateResult:
        helpers, session = self._party.helpers, self._session
        assert helpers is not None
        terms = self._split_terms(helpers, cohort)
        plan = encode(msgspec.structs.replace(self._plan, terms=encode(terms)))
        agreed = {cohort.round_num: messages.agreed_digest(self._party.hub.setup, plan)}
        aggregator = MaskedAggregator(terms, len(helpers.remotes), self._party.roster, agreed)

        def take(member: ClientId, body: bytes) -> None:
            upload = aggregator.check(body)
            if upload.client_id != member:
                raise ClientRefused(f"it sent an upload of {as_one_line(upload.client_id)}")
            aggregator.add(upload)

        trained = session.train(plan, cohort.members, take)
        with session.metered("open"):
            requests = aggregator.requests()
            try:
                answers = [helper.open(request) for helper, request in zip(helpers.remotes, requests)]
            except SeedRefused as error:  # a client's lie ends the round, not the run
                named = sorted(set(trained) & set(error.client_ids))  # a helper may name anybody, and as many
                for client_id in named:
                    self._strike(client_id, cohort.round_num, "seals seeds that do not open")
                whose = ", ".join(named) or "nobody in the round"
                raise BelowThreshold(f"round {cohort.round_num}: sealed seeds do not open: those of {whose}") from None
            try:
                total = aggregator.finish(answers)
            except (ForeignRound, MalformedMessage) as error:  # and so does a helper's
                raise BelowThreshold(str(error)) from None
        num_asked, num_answered = sum(map(len, requests)), sum(map(len, answers))
        bill = {"open": StageCost(bytes_up=num_answered, bytes_down=num_asked)}
        return AggregateResult(total, tuple(trained), session.ledger(helpers=bill))

    def _split_terms(self, helpers: Helpers, cohort: Cohort) -> RoundTerms:
        group, self._num_sums = self._num_sums, self._num_sums + 1
        return RoundTerms(
            run=helpers.run,
            round_num=cohort.round_num,
            group=group,
            max_staleness=0,
            num_slots=self._num_slots,
            min_contributions=cohort.min_survivors,
            helpers=helpers_digest(helpers.public),
        )

    def _look_for_spoiler(self, summed: Sequence[ClientId], round_num: int) -> None:
        known = set(self._suspects.struck)
        self._suspects.spoiled(summed)
        for client_id in self._suspects.struck - known:
            self._strike(client_id, round_num, "spoils every sum that it is in")

    def _strike(self, client_id: ClientId, round_num: int, reason: str) -> None:
        self._suspects.strike(client_id)
        self._party.note(f"round {round_num}: {client_id} {reason}: struck off from here on")


# The kinds of sum that clients on other machines can take part in.
PROTOCOLS = {"secagg": NetworkSum._secagg, "encrypted": NetworkSum._encrypted, "split": NetworkSum._split}


def _by_name(members: Sequence[ClientId], open_stage: Callable[[], Outbox]) -> Iterator[tuple[ClientId, bytes]]:
    """Yields a stage's messages with the clients' names, where the protocol has numbers."""
    return ((members[index], body) for index, body in open_stage())


def largest_cohort(num_clients: int, policy: Policy) -> int:
    """Returns the size of the largest cohort, up to num_clients, that the policy can protect; 0 if there is none.

    It may be below num_clients, because the policy's shares are rounded to whole clients.

    >>> [largest_cohort(n, Policy(dropout_share=0.3)) for n in (2, 3, 4, 5)]
    [0, 3, 3, 5]
    """
    for num in range(num_clients, 2, -1):
        try:
            graph_parameters(num, policy)
        except WeakParameters:
            continue
        return num
    return 0
