"""What a stranger, or an enrolled client that goes mad, can do to the server and the decryptor: to keep nobody out."""

from __future__ import annotations

import itertools
import queue
import resource
import socket
from contextlib import contextmanager

import grpc
import pytest
from loopback import NAMES, Peer, config_of, decrypting, serving

from orchestrator.network import challenges as challenges_module
from orchestrator.network import messages
from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import SERVER, read_identity, read_roster, role_name
from orchestrator.network.challenges import Challenges
from orchestrator.network.channel import Link, open_channel
from orchestrator.network.decryptor import RemoteDecryptor
from orchestrator.network.errors import KeysError, UnknownClient
from orchestrator.network.hub import Hub
from orchestrator.network.tls import Tls
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)


@contextmanager
def listening(keys):
    hub = Hub(read_roster(keys), b"setup", 1 << 16)
    address = f"localhost:{hub.listen('localhost:0', Tls.of_role(keys, SERVER))}"
    try:
        yield hub, address
    finally:
        hub.stop("the test is over")


def joins(keys, address, name=NAMES[0]) -> bool:
    """Whether an enrolled client gets in, in the time that its call has."""
    with (
        open_channel(address, Tls.of_client(keys, name)) as channel,
        Link(channel, address, name, read_identity(keys, name)) as link,
    ):
        return next(iter(link)) == b"setup"


def test_a_stranger_gets_no_answer_at_all(keys):
    anonymous = grpc.ssl_channel_credentials((keys / "ca.pem").read_bytes())
    options = [("grpc.ssl_target_name_override", role_name(SERVER))]
    with listening(keys) as (_, address), grpc.secure_channel(address, anonymous, options) as channel:
        for method in (messages.CHALLENGE, messages.JOIN, "/any/thing"):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(method)(b"", timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert joins(keys, address)


def test_half_open_challenges_hold_no_thread(keys):
    """As many calls as the server has threads, and more, each of which never sends its request."""
    with listening(keys) as (_, address), many_channels(keys, address, 40) as channels:
        calls = [half_open(channel, messages.CHALLENGE) for channel in channels]
        for channel in channels:  # each connection is still served, so the calls before were seen
            assert len(channel.unary_unary(messages.CHALLENGE)(b"", timeout=10)) == messages.NONCE_BYTES
        assert joins(keys, address)
    for call in calls:
        call.cancel()


@contextmanager
def own_channel(keys, address):
    """A channel of a client that keeps to none of our limits."""
    options = [("grpc.ssl_target_name_override", role_name(SERVER)), ("grpc.max_send_message_length", -1)]
    with grpc.secure_channel(address, Tls.of_client(keys, NAMES[0]).calling(), options) as channel:
        yield channel


def proof(keys, channel):
    nonce, identity = channel.unary_unary(messages.CHALLENGE)(b"", timeout=10), read_identity(keys, NAMES[0])
    return (
        (messages.CLIENT_HEADER, NAMES[0]),
        (messages.NONCE_HEADER, nonce),
        (messages.SIGNATURE_HEADER, identity.sign(messages.proof_bytes(nonce, NAMES[0]))),
    )


def test_a_message_that_unpacks_to_a_thousand_times_its_size_is_not_unpacked(keys):
    """A kilobyte that would be a megabyte, sixteen times what the server takes: it would see so too late."""
    with listening(keys) as (_, address), own_channel(keys, address) as channel:
        call = channel.stream_stream(messages.JOIN)(
            iter([bytes(1 << 20)]), timeout=10, metadata=proof(keys, channel), compression=grpc.Compression.Gzip
        )
        with pytest.raises(grpc.RpcError) as refused:
            list(call)
        assert "'gzip' is disabled" in refused.value.details()
        assert joins(keys, address)


def test_what_nobody_asked_for_waits_at_the_client(keys):
    """100 MiB of it: the server takes in no more than its window, as long as it has other things to do."""
    taken = []

    def flood():
        for _ in range(400):
            taken.append(1 << 18)
            yield bytes(1 << 18)

    with listening(keys) as (_, address), own_channel(keys, address) as channel:
        call = channel.stream_stream(messages.JOIN)(flood(), metadata=proof(keys, channel))
        assert next(call) == b"setup"
        for _ in range(300):
            channel.unary_unary(messages.CHALLENGE)(b"", timeout=10)
        assert sum(taken) <= 2 << 20
        call.cancel()
        assert joins(keys, address)


def half_open(channel, method):
    """A call that never sends what it asks; it ends with whoever holds it."""
    return channel.stream_unary(method).future(iter(queue.Queue().get, None))


@contextmanager
def many_channels(keys, address, num):
    channels = [open_channel(address, Tls.of_client(keys, NAMES[1 + i % 5])) for i in range(num)]
    yield channels
    for channel in channels:
        channel.close()


def test_ten_thousand_challenges_keep_nobody_out():
    """The server keeps none of them: the first is as good as the last, and the memory is that of the enrolled."""
    challenges = Challenges(clock_ns=itertools.count().__next__)
    first = challenges.make()
    for _ in range(20_000):
        challenges.make()
    assert challenges.take(first, NAMES[0])
    assert challenges.take(challenges.make(), NAMES[1])
    assert challenges._last_taken.keys() == {NAMES[0], NAMES[1]}


def test_a_nonce_is_taken_once_in_time_and_from_its_maker_only():
    now = [0]
    challenges = Challenges(clock_ns=lambda: now[0])
    nonce = challenges.make()
    for changed in (b"", nonce[:-1], nonce + b"\0", bytes(32), bytes([nonce[0] ^ 1]) + nonce[1:], Challenges().make()):
        assert not challenges.take(changed, NAMES[0])
    assert challenges.take(nonce, NAMES[0])
    assert not challenges.take(nonce, NAMES[0])
    now[0] = 1
    late = challenges.make()
    now[0] += int(challenges_module.LIFE_S * 1e9)
    assert challenges.take(late, NAMES[0])  # to the last moment
    now[0] += 1
    assert not challenges.take(late, NAMES[1])


def test_a_proof_can_t_be_played_again(keys):
    identity = read_identity(keys, NAMES[0])
    with listening(keys) as (_, address), open_channel(address, Tls.of_client(keys, NAMES[0])) as channel:
        nonce = channel.unary_unary(messages.CHALLENGE)(b"", timeout=10)
        headers = (
            (messages.CLIENT_HEADER, NAMES[0]),
            (messages.NONCE_HEADER, nonce),
            (messages.SIGNATURE_HEADER, identity.sign(messages.proof_bytes(nonce, NAMES[0]))),
        )
        join = channel.stream_stream(messages.JOIN)
        assert next(join(iter(queue.Queue().get, None), metadata=headers)) == b"setup"
        with pytest.raises(grpc.RpcError, match="answered an old challenge"):
            next(join(iter([]), metadata=headers))


def test_an_identity_and_a_certificate_of_two_clients_do_not_go_together(keys):
    with (
        listening(keys) as (_, address),
        open_channel(address, Tls.of_client(keys, NAMES[1])) as channel,
        Link(channel, address, NAMES[0], read_identity(keys, NAMES[0])) as link,
        pytest.raises(UnknownClient),
    ):
        next(iter(link))


def test_a_client_that_comes_and_goes_fills_no_memory(keys):
    with listening(keys) as (hub, address):
        for _ in range(20):
            assert joins(keys, address)
        assert joins(keys, address, NAMES[1])
        assert hub._inbox.qsize() == 0
        assert len(hub._connections) == 2


def test_a_client_that_leaves_while_it_owes_an_answer_is_not_waited_for(keys):
    """The other half: then somebody does wait, and must hear of it at once."""
    with (
        listening(keys) as (hub, address),
        open_channel(address, Tls.of_client(keys, NAMES[0])) as channel,
        Link(channel, address, NAMES[0], read_identity(keys, NAMES[0])) as link,
    ):
        received = iter(link)
        assert next(received) == b"setup"
        (connection,) = hub.wait_for_clients(1, 1, 20.0)
        assert connection.ask((1, "train"), b"question")
        assert next(received) == b"question"
        link.__exit__()
        assert list(hub.collect([connection], (1, "train"), 50.0)) == []


def test_idle_connections_keep_nobody_out(keys):
    with listening(keys) as (_, address):
        host, port = address.split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(100)]
        assert joins(keys, address)
        for connection in idle:
            connection.close()


def test_idle_connections_may_use_up_all_files_that_the_machine_allows_not_the_first_thousand(keys):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
    try:
        with listening(keys):
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_only_the_server_may_call_the_decryptor(keys, tmp_path):
    """A client's or the decryptor's certificate opens no round: the server's key of the round stays as it was."""
    config = config_of(**{"aggregation.aggregator": "encrypted"})
    with decrypting(keys) as (address, notes):
        for tls in (Tls.of_client(keys, NAMES[0]), Tls.of_role(keys, "decryptor")):
            with open_channel(address, tls, "decryptor") as channel:
                calls = [half_open(channel, messages.OPEN) for _ in range(6)]  # more than it has threads
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(messages.OPEN)(encode(messages.RoundToOpen(9, 100)), timeout=10)
                assert refused.value.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE)
                for call in calls:
                    call.cancel()
        with serving(keys, tmp_path, config, RemoteDecryptor(address, keys)) as served:
            peers = [Peer(keys, served, name, aggregator="encrypted") for name in NAMES]
        assert all(peer.join().goodbye for peer in peers)
    assert served.rounds[0].outcome == "completed"
    assert "round 9: a fresh key for one sum" not in notes


def test_enrolling_needs_the_authority(tmp_path):
    make_keys(tmp_path, ["ann"])
    (tmp_path / "ca.key").rename(tmp_path / "elsewhere")
    with pytest.raises(KeysError, match=r"ca\.key"):
        make_keys(tmp_path, ["bob"])
    assert set(read_roster(tmp_path)) == {"ann"}
    (tmp_path / "ca.key").write_bytes((tmp_path / "clients" / "ann.key").read_bytes())
    with pytest.raises(KeysError, match="holds no key for TLS"):
        make_keys(tmp_path, ["bob"])
    (tmp_path / "ca.key").write_text("no key")
    with pytest.raises(KeysError, match="holds no private key"):
        make_keys(tmp_path, ["bob"])


def test_a_client_without_its_certificate_is_told_which_file(keys, tmp_path):
    with pytest.raises(KeysError, match=r"tls/nobody\.pem"):
        Tls.of_client(keys, "nobody").context()
    with pytest.raises(KeysError, match=r"tls/nobody\.key"):
        Tls.of_client(keys, "nobody").calling()
