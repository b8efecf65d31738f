"""What a client refuses from a server: every check between a message and its answer, in one place.

Each function returns what the client goes on with, or raises the named error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence, Set

from orchestrator.secagg import messages
from orchestrator.secagg.errors import (
    AliveAndDead,
    RosterRefused,
    SharesRefused,
    SplitView,
    SurvivorsRefused,
    TooFewPeers,
    WeakParameters,
)
from orchestrator.secagg.graph import GraphParameters, Policy, graph_parameters

SignatureCheck = Callable[[bytes, bytes, bytes, bytes, int, bytes], bool]  # the arguments of keys.is_signed


def checked_parameters(invitation: messages.Invitation, policy: Policy) -> GraphParameters:
    """Returns the degree and threshold, which the client computes itself: no server can talk it into laxer ones.

    Raises:
      WeakParameters: the server's differ, or the cohort is too small for the policy, as a cohort of one is, or larger
        than it allows.
    """
    if invitation.num_clients > policy.max_clients:
        raise WeakParameters(f"a cohort of {invitation.num_clients}, at most {policy.max_clients} expected")
    own = graph_parameters(invitation.num_clients, policy)
    if (invitation.degree, invitation.threshold) != (own.degree, own.threshold):
        raise WeakParameters(
            f"the server offers degree {invitation.degree} and threshold {invitation.threshold} for "
            f"{own.num_clients} clients, this client's policy asks for {own.degree} and {own.threshold}"
        )
    if invitation.min_survivors < policy.min_survivors:
        raise WeakParameters(
            f"the server would sum {invitation.min_survivors} survivors, "
            f"this client's policy asks for {policy.min_survivors}"
        )
    if invitation.recipient >= own.num_clients:
        raise WeakParameters(f"no client {invitation.recipient} in a cohort of {own.num_clients}")
    return own


def check_roster(
    roster: messages.Roster,
    own_keys: Sequence[bytes],
    enrolled: Container[bytes],
    parameters: GraphParameters,
    is_signed: SignatureCheck,
) -> None:
    """Checks that the neighbours are different, enrolled people who signed their keys for this session.

    Raises:
      RosterRefused: a neighbour is forged, repeated, a stranger or one too many.
      TooFewPeers: the roster names fewer neighbours than the threshold.
    """
    peers = roster.neighbours
    indices = {roster.recipient, *(peer.index for peer in peers)}
    if len(indices) != 1 + len(peers) or max(indices) >= parameters.num_clients:
        raise RosterRefused("a client appears twice in the roster, or is none of the cohort")
    if len(peers) > parameters.degree:
        raise RosterRefused(f"{len(peers)} neighbours, at most {parameters.degree} expected")
    distinct = {*own_keys, *(key for p in peers for key in (p.identity, p.channel_key, p.mask_key))}
    if len(distinct) != len(own_keys) + 3 * len(peers):
        raise RosterRefused("a key appears twice in the roster: someone stands there under two names")
    for peer in peers:
        if peer.identity not in enrolled:
            raise RosterRefused(f"client {peer.index} is not enrolled")
        if not is_signed(peer.signature, peer.identity, b"advertise", roster.session, peer.index, peer.signed_bytes):
            raise RosterRefused(f"the keys of client {peer.index} are not signed by it for this session")
    require_threshold(len(peers), "neighbours advertised", parameters)


def checked_senders(delivery: messages.Delivery, neighbours: Set[int]) -> frozenset[int]:
    """Returns the neighbours whose shares arrived.

    Raises:
      SharesRefused: a sender is no neighbour, or appears twice.
    """
    senders = frozenset(share.sender for share in delivery.shares)
    if len(senders) != len(delivery.shares) or not senders <= neighbours:
        raise SharesRefused("shares from someone who is not a neighbour, or twice from one")
    return senders


def checked_survivors(
    survivors: messages.Survivors,
    neighbours: Set[int],
    peers: Set[int],
    opened: Set[int],
    parameters: GraphParameters,
    min_survivors: int,
) -> frozenset[int]:
    """Returns the peers that survive.

    Only neighbours whose shares this client could decrypt count towards the minimum: the others may have received
    another roster.

    Raises:
      SurvivorsRefused: the client itself is missing, or a neighbour survives whose shares were never delivered.
      TooFewPeers: fewer clients survive than the minimum, or fewer neighbours than the threshold.
    """
    alive = messages.from_bitmap(survivors.alive, parameters.num_clients)
    if parameters.is_complete:
        neighbours = set(range(parameters.num_clients)) - {survivors.recipient}
    if survivors.recipient not in alive:
        raise SurvivorsRefused("the survivors leave out this client, whose vector was sent")
    if alive & (neighbours - peers):
        raise SurvivorsRefused("the survivors hold a neighbour whose shares were never delivered")
    num_survivors = len(alive - (neighbours - opened))
    if num_survivors < min_survivors:
        raise TooFewPeers(f"{num_survivors} survivors, {min_survivors} needed")
    require_threshold(len(alive & peers), "neighbours survive", parameters)
    return alive & peers


def check_request(
    request: messages.UnmaskRequest,
    signed: tuple[bytes, bytes],
    identities: Mapping[int, bytes],
    alive: frozenset[int],
    dead: frozenset[int],
    parameters: GraphParameters,
    is_signed: SignatureCheck,
) -> None:
    """Checks that enough neighbours signed the same survivors, and that the server asks for the right secrets.

    Args:
      request: the message to check.
      signed: what this client signed: the bound session and the bitmap.
      identities: {neighbour: its public key}.
      alive: the peers whose vectors are in the sum.
      dead: the peers that shared their secrets and whose vectors are not.
      parameters: the graph's.
      is_signed: checks a signature.

    Raises:
      SplitView: a consent is not a surviving neighbour's signature over the bitmap that this client received.
      AliveAndDead: a neighbour is on both lists, or on the wrong one.
      TooFewPeers: fewer neighbours consent than the threshold.
    """
    session, bitmap = signed
    senders = [consent.sender for consent in request.consents]
    if _repeats(senders) or not alive.issuperset(senders):
        raise SplitView("a consent of someone who is no surviving neighbour, or two of one")
    for consent in request.consents:
        identity = identities[consent.sender]
        if not is_signed(consent.signature, identity, b"survivors", session, consent.sender, bitmap):
            raise SplitView(f"client {consent.sender} did not sign the survivors that this client was told")
    require_threshold(len(senders), "neighbours consent", parameters)
    if _repeats([*request.alive, *request.dead]):
        raise AliveAndDead("a neighbour is named twice: only one of its secrets may be recovered")
    if not alive.issuperset(request.alive) or not dead.issuperset(request.dead):
        raise AliveAndDead("a neighbour is named dead whose vector arrived, or alive whose did not")


def require_threshold(count: int, what: str, parameters: GraphParameters) -> None:
    """Raises TooFewPeers if the count is below the threshold."""
    if count < parameters.threshold:
        raise TooFewPeers(f"{count} {what}, {parameters.threshold} needed")


def _repeats(indices: Collection[int]) -> bool:
    return len(set(indices)) != len(indices)
