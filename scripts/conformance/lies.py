"""What a server may tell a client in place of the honest message, and the client must refuse: the tables of lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.secagg import keys, messages
from orchestrator.secagg.graph import graph_parameters
from orchestrator.wire import encode

if TYPE_CHECKING:
    from conformance.secagg import Session

Lie = Callable[["Session"], "dict[str, bytes]"]  # {stage: the message in place of the honest one}
SENT = (messages.Invitation, messages.Roster, messages.Delivery, messages.Survivors, messages.UnmaskRequest)
TYPES = dict(zip(messages.STAGES, SENT))  # of what the server sends at each stage
SMALL_ORDER = bytes(32)
NUM_CLIENTS = 10  # of which 2 never shares and 7 never uploads
ALIVE = frozenset({0, 1, 3, 4, 5, 6, 8, 9})
KEY = X25519PrivateKey.from_private_bytes(b"\x07" * 32).public_key().public_bytes_raw()
OTHER_KEY = X25519PrivateKey.from_private_bytes(b"\x09" * 32).public_key().public_bytes_raw()


def honest(session: Session, stage: str, index: int = 0) -> messages.Message:
    """Returns the honest message."""
    return messages.decode(session.wires[stage][index], TYPES[stage], 1 << 20)


def changed(stage: str, **fields: object) -> Lie:
    """A lie that changes some fields of the honest message."""
    return lambda session: {stage: encode(msgspec.structs.replace(honest(session, stage), **fields))}


def roster(change: Callable[[Session, list[messages.Credentials]], list[messages.Credentials]]) -> Lie:
    """A lie about who client 0's neighbours are."""

    def lie(session: Session) -> dict[str, bytes]:
        found = honest(session, "shares")
        return {"shares": encode(msgspec.structs.replace(found, neighbours=change(session, list(found.neighbours))))}

    return lie


def signed(
    session: Session, identity: Ed25519PrivateKey, index: int, channel: bytes, mask: bytes
) -> messages.Credentials:
    """Returns keys of the liar's choice, well signed by an identity that colludes."""
    public = identity.public_key().public_bytes_raw()
    name = honest(session, "shares").session
    signature = keys.sign(identity, b"advertise", name, index, public + channel + mask)
    return messages.Credentials(index, public, channel, mask, signature)


def by_first(channel: Callable[[list], bytes], mask: Callable[[list], bytes]) -> Lie:
    """The first neighbour colludes and signs other keys."""

    def change(session: Session, peers: list[messages.Credentials]) -> list[messages.Credentials]:
        first = peers[0]
        keys_of = channel(peers), mask(peers)
        return [signed(session, session.identities[first.index], first.index, *keys_of), *peers[1:]]

    return roster(change)


def own_key(session: Session) -> bytes:
    """Returns the mask key that client 0 advertised."""
    return messages.decode(session.answers["advertise"][0], messages.Advertisement, 1 << 20).credentials.mask_key


def stranger(session: Session, peers: list[messages.Credentials]) -> list[messages.Credentials]:
    """Someone who is not enrolled, well signed."""
    identity = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
    return [signed(session, identity, peers[0].index, KEY, OTHER_KEY), *peers[1:]]


def of_another_session(session: Session, peers: list[messages.Credentials]) -> list[messages.Credentials]:
    """What the first neighbour signed for another session."""
    first = peers[0]
    body = first.identity + first.channel_key + first.mask_key
    stale = keys.sign(session.identities[first.index], b"advertise", bytes(32), first.index, body)
    return [msgspec.structs.replace(first, signature=stale), *peers[1:]]


def in_another_writing(key: bytes) -> bytes:
    """Returns a key that is the same to X25519, and another to a comparison."""
    return key[:31] + bytes([key[31] | 0x80])


def one_person_twice(session: Session, peers: list[messages.Credentials]) -> list[messages.Credentials]:
    """The first neighbour stands in the second's place, too."""
    return [peers[0], signed(session, session.identities[peers[0].index], peers[1].index, KEY, OTHER_KEY), *peers[2:]]


def shares(change: Callable[[Session, list[messages.DeliveredShare]], list[messages.DeliveredShare]]) -> Lie:
    """A lie about what the neighbours sealed."""

    def lie(session: Session) -> dict[str, bytes]:
        found = honest(session, "upload")
        return {"upload": encode(msgspec.structs.replace(found, shares=change(session, list(found.shares))))}

    return lie


def for_another_roster(session: Session, given: list[messages.DeliveredShare]) -> list[messages.DeliveredShare]:
    """The neighbours were told of another roster, or sent other weights: what they sealed does not open here."""
    return [msgspec.structs.replace(share, sealed=bytes(len(share.sealed))) for share in given]


def withheld(session: Session) -> dict[str, bytes]:
    """The last neighbour's shares never came, and yet it survives."""
    found = honest(session, "upload")
    delivery = msgspec.structs.replace(found, shares=[s for s in found.shares if s.sender != 9])
    return {"upload": encode(delivery), "consistency": session.wires["consistency"][0]}


def consents(change: Callable[[list[messages.PeerConsent]], list[messages.PeerConsent]]) -> Lie:
    """A lie about what the neighbours signed."""

    def lie(session: Session) -> dict[str, bytes]:
        found = honest(session, "unmask")
        return {"unmask": encode(msgspec.structs.replace(found, consents=change(list(found.consents))))}

    return lie


def consent_elsewhere(session: Session) -> dict[str, bytes]:
    """The last neighbour signed the same survivors, in a session with another roster."""
    elsewhere = messages.bound_session(honest(session, "unmask").session, session.agreed, [])
    alive = honest(session, "consistency").alive
    signature = keys.sign(session.identities[9], b"survivors", elsewhere, 9, alive)
    return consents(lambda given: [*given[:-1], messages.PeerConsent(9, signature)])(session)


def split_view(session: Session) -> dict[str, bytes]:
    """Client 0 is told that client 9 is dead, its neighbours that it lives."""
    consistency = alive_are(ALIVE - {9})(session)
    return {**consistency, "unmask": encode(msgspec.structs.replace(honest(session, "unmask"), consents=[
        consent for consent in honest(session, "unmask").consents if consent.sender != 9
    ]))}  # fmt: skip


def alive_are(indices: Iterable[int]) -> Lie:
    """A lie about whose vectors arrived."""
    return changed("consistency", alive=messages.to_bitmap(indices, NUM_CLIENTS))


def another_s(stage: str) -> Lie:
    """The message of client 1."""
    return lambda session: {stage: session.wires[stage][1]}


def cut(stage: str) -> Lie:
    """The honest message without its last byte."""
    return lambda session: {stage: session.wires[stage][0][:-1]}


def _everywhere() -> Iterator[tuple[str, str, Lie]]:
    for stage in TYPES:
        yield "cut off", stage, cut(stage)
        yield "bytes after the end", stage, lambda session, s=stage: {s: session.wires[s][0] + b"\0"}
    for stage in messages.STAGES[1:]:
        yield "another client's", stage, another_s(stage)
        yield "another session's", stage, changed(stage, session=bytes(32))


def one_neighbour_more(session: Session) -> dict[str, bytes]:
    """On a drawn graph, one of the cohort that is no neighbour of client 9; who adds some could choose them all."""
    found = honest(session, "shares", 9)
    known = {9, *(peer.index for peer in found.neighbours)}
    extra = next(i for i in session.answers["advertise"] if i not in known)
    theirs = messages.decode(session.answers["advertise"][extra], messages.Advertisement, 1 << 20).credentials
    return {"shares": encode(msgspec.structs.replace(found, neighbours=[*found.neighbours, theirs]))}


def the_complete_graph(session: Session) -> dict[str, bytes]:
    """The server would rather not draw the graph."""
    whole = graph_parameters(session.plot.num_clients, dataclasses.replace(session.plot.policy, complete_up_to=100))
    degree, threshold = whole.degree, whole.threshold
    return {
        "advertise": encode(
            msgspec.structs.replace(honest(session, "advertise", 9), degree=degree, threshold=threshold)
        )
    }


def one_seal_for_nobody(session: Session) -> dict[str, bytes]:
    """On a drawn graph a neighbour's share does not open, so it may have heard other things: it makes no crowd."""
    found = honest(session, "upload", 9)
    *others, last = found.shares
    junk = msgspec.structs.replace(last, sealed=bytes(len(last.sealed)))
    delivery = msgspec.structs.replace(found, shares=[*others, junk])
    return {"upload": encode(delivery), "consistency": session.wires["consistency"][9]}


_R = msgspec.structs.replace
_DRAWN: list[tuple[str, str, Lie]] = [
    ("the complete graph's degree and threshold", "advertise", the_complete_graph),
    ("one neighbour more than the degree", "shares", one_neighbour_more),
    ("fewer survivors than the minimum whose shares open", "consistency", one_seal_for_nobody),
]
_COMPLETE: list[tuple[str, str, Lie]] = [
    *_everywhere(),
    ("a cohort of one", "advertise", changed("advertise", num_clients=1, degree=0, threshold=0)),
    ("a cohort of two", "advertise", changed("advertise", num_clients=2, degree=1, threshold=1)),
    ("a lower threshold", "advertise", changed("advertise", threshold=2)),
    ("a higher threshold", "advertise", changed("advertise", threshold=7)),
    ("a lower degree", "advertise", changed("advertise", degree=8)),
    ("a smaller cohort", "advertise", changed("advertise", num_clients=9)),
    ("fewer survivors", "advertise", changed("advertise", min_survivors=1)),
    ("a number beyond the cohort", "advertise", changed("advertise", recipient=10)),
    ("a forged mask key", "shares", roster(lambda _, n: [_R(n[0], mask_key=KEY), *n[1:]])),
    ("a forged channel key", "shares", roster(lambda _, n: [_R(n[0], channel_key=KEY), *n[1:]])),
    ("a stranger", "shares", roster(stranger)),
    ("a neighbour's mask key twice", "shares", by_first(lambda n: n[0].channel_key, lambda n: n[1].mask_key)),
    ("one person under two numbers", "shares", roster(one_person_twice)),
    ("a channel key of small order", "shares", by_first(lambda n: SMALL_ORDER, lambda n: n[0].mask_key)),
    ("a mask key of small order", "shares", by_first(lambda n: n[0].channel_key, lambda n: SMALL_ORDER)),
    ("a mask key in another writing", "shares", by_first(
        lambda n: n[0].channel_key, lambda n: in_another_writing(n[0].mask_key))),
    ("a channel key in another writing", "shares", by_first(
        lambda n: in_another_writing(n[1].channel_key), lambda n: n[0].mask_key)),
    ("a neighbour's keys of another session", "shares", roster(of_another_session)),
    ("a neighbour twice", "shares", roster(lambda _, n: [n[0], *n])),
    ("the client itself", "shares", roster(lambda _, n: [_R(n[0], index=0), *n[1:]])),
    ("a neighbour beyond the cohort", "shares", roster(lambda _, n: [_R(n[0], index=10), *n[1:]])),
    ("the client's own mask key", "shares", roster(
        lambda s, n: [signed(s, s.identities[1], 1, KEY, own_key(s)), *n[1:]])),
    ("two neighbours", "shares", roster(lambda _, n: n[:2])),
    ("no neighbours", "shares", roster(lambda _, n: [])),
    ("shares for another", "upload", shares(lambda s, _: [x for x in honest(s, "upload", 1).shares if x.sender])),
    ("shares of the client itself", "upload", shares(lambda _, n: [*n, messages.DeliveredShare(0, n[0].sealed)])),
    ("shares of nobody", "upload", shares(lambda _, n: [*n, messages.DeliveredShare(19, n[0].sealed)])),
    ("shares twice", "upload", shares(lambda _, n: [*n, n[0]])),
    ("shares that open for another roster", "upload", shares(for_another_roster)),
    ("no shares", "upload", shares(lambda _, n: [])),
    ("survivors without the client", "consistency", alive_are(ALIVE - {0})),
    ("no survivors", "consistency", alive_are([])),
    ("one survivor", "consistency", alive_are({0})),
    ("few survivors", "consistency", alive_are({0, 1, 3, 4, 5, 6})),
    ("a survivor that never shared", "consistency", alive_are(ALIVE | {2})),
    ("a survivor whose shares were withheld", "consistency", withheld),
    ("survivors beyond the cohort", "consistency", changed("consistency", alive=b"\xff\x07")),
    ("a bitmap of another length", "consistency", changed("consistency", alive=b"\xff")),
    ("a split view", "unmask", split_view),
    ("a dead one that lives", "unmask", changed("unmask", dead=[6])),
    ("a living one that is dead", "unmask", changed("unmask", alive=sorted(ALIVE - {0} | {7}), dead=[])),
    ("alive and dead", "unmask", changed("unmask", dead=[6, 7])),
    ("dead and alive", "unmask", changed("unmask", alive=sorted(ALIVE - {0} | {7}))),
    ("a living one for a dead one", "unmask", changed("unmask", alive=sorted(ALIVE - {0, 6}), dead=[6])),
    ("a living one's secret twice", "unmask", changed("unmask", alive=[*sorted(ALIVE - {0}), 9], dead=[])),
    ("the client's own secret", "unmask", changed("unmask", alive=sorted(ALIVE), dead=[])),
    ("a secret twice", "unmask", changed("unmask", dead=[7, 7])),
    ("one who never shared", "unmask", changed("unmask", dead=[2])),
    ("a stranger's secret", "unmask", changed("unmask", dead=[19])),
    ("no consents", "unmask", consents(lambda n: [])),
    ("few consents", "unmask", consents(lambda n: n[:2])),
    ("the client's own consent", "unmask", consents(lambda n: [*n, messages.PeerConsent(0, n[0].signature)])),
    ("a dead one's consent", "unmask", consents(lambda n: [*n, messages.PeerConsent(7, n[0].signature)])),
    ("a consent twice", "unmask", consents(lambda n: [n[0], *n])),
    ("a consent to the same survivors in another roster", "unmask", consent_elsewhere),
    ("a forged consent", "unmask", consents(lambda n: [messages.PeerConsent(n[0].sender, bytes(64)), *n[1:]])),
]  # fmt: skip
_ABSENT: list[tuple[str, str, Lie]] = [
    ("a survivor that never advertised", "consistency", changed("consistency", alive=messages.to_bitmap(range(5), 5))),
]
LIES = {"complete graph": _COMPLETE, "drawn graph": _DRAWN, "one client absent": _ABSENT}
