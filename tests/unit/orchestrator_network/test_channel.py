"""What goes wrong before a round: ports, certificates, proofs, addresses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from loopback import NAMES, WORDS, Peer, Served, assert_one_line, config_of, serving, wait_until

from orchestrator.network import messages
from orchestrator.network.authority import make_keys
from orchestrator.network.certificates import DECRYPTOR, SERVER, read_identity, read_roster
from orchestrator.network.channel import Link, check_server, open_channel
from orchestrator.network.client_process import run_client
from orchestrator.network.decryptor import RemoteDecryptor
from orchestrator.network.demands import Demands
from orchestrator.network.errors import (
    BadCertificate,
    NetworkError,
    PortInUse,
    ServerGone,
    UnknownClient,
    WireError,
)
from orchestrator.network.hub import Hub
from orchestrator.network.listening import add_handlers, listen
from orchestrator.network.pace import Pace
from orchestrator.network.server import setup_message
from orchestrator.network.tls import Tls
from orchestrator.rounds.sums import secagg_policy
from orchestrator.run.folder import RunFolder

pytestmark = pytest.mark.timeout(60)


def test_a_port_in_use(keys, tmp_path):
    with serving(keys, tmp_path, config_of()) as served:
        hub = Hub(read_roster(keys), b"", 1000)
        with pytest.raises(PortInUse, match="^can't listen on localhost:") as caught:
            hub.listen(served.address, Tls.of_role(keys, SERVER))
        peers = [Peer(keys, served, name) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)
    assert_one_line(caught.value)


def test_a_server_of_another_authority_an_unknown_client_and_another_key(keys, tmp_path):
    other = tmp_path / "other"
    make_keys(other, [NAMES[0], "stranger"])
    demands = Demands(secagg_policy(config_of().aggregation))
    (tmp_path / "text.txt").write_text("See you at the house.\nMy friend")
    text = str(tmp_path / "text.txt")
    with serving(keys, tmp_path, config_of()) as served:
        with pytest.raises(BadCertificate, match="certificate that does not hold") as caught:
            run_client(served.address, other, NAMES[0], text, demands, 0.0, Pace(0.0, print))
        assert_one_line(caught.value)
        (other / "ca.pem").write_bytes((keys / "ca.pem").read_bytes())
        with pytest.raises(UnknownClient, match="does not accept this certificate for TLS") as caught:
            run_client(served.address, other, "stranger", text, demands, 0.0, Pace(0.0, print))
        assert_one_line(caught.value)
        shutil.copytree(keys / "tls", other / "tls", dirs_exist_ok=True)  # a client of the CA, with other identities
        (other / "tls" / "stranger.pem").write_bytes((keys / "tls" / f"{NAMES[0]}.pem").read_bytes())
        (other / "tls" / "stranger.key").write_bytes((keys / "tls" / f"{NAMES[0]}.key").read_bytes())
        for name in ("stranger", NAMES[0]):
            with pytest.raises(UnknownClient, match=f"client '{name}' is not enrolled with this key") as caught:
                run_client(served.address, other, name, text, demands, 0.0, Pace(0.0, print))
            assert_one_line(caught.value)
        peers = [Peer(keys, served, name) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)
    with pytest.raises(ServerGone, match="^nobody answers at localhost:") as caught:
        run_client(served.address, keys, NAMES[0], text, demands, 0.0, Pace(0.0, print))
    assert_one_line(caught.value)


def test_an_old_proof_opens_nothing(keys, tmp_path):
    tls, identity = Tls.of_client(keys, NAMES[0]), read_identity(keys, NAMES[0])
    with serving(keys, tmp_path, config_of()) as served:
        with open_channel(served.address, tls) as channel:
            nonce = bytes(messages.NONCE_BYTES)  # the server never gave it
            headers = (
                (messages.CLIENT_HEADER, NAMES[0]),
                (messages.NONCE_HEADER, nonce),
                (messages.SIGNATURE_HEADER, identity.sign(messages.proof_bytes(nonce, NAMES[0]))),
            )
            call = channel.stream_stream(messages.JOIN)(iter([]), metadata=headers)
            with pytest.raises(Exception, match="answered an old challenge"):
                next(call)
        peers = [Peer(keys, served, name) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)


@contextmanager
def answering(keys, role, challenge):
    """Whoever holds a party's files, and answers a challenge as it likes."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_handlers(server, {messages.CHALLENGE: grpc.unary_unary_rpc_method_handler(challenge)})
    try:
        yield f"localhost:{listen(server, 'localhost:0', Tls.of_role(keys, role))}"
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33), b"fedkeys secagg 1 advertise", bytes(1 << 20)])
def test_a_client_signs_nothing_but_a_nonce(keys, nonce):
    tls, identity = Tls.of_client(keys, NAMES[0]), read_identity(keys, NAMES[0])
    with (
        answering(keys, SERVER, lambda *_: nonce) as address,
        open_channel(address, tls) as channel,
        pytest.raises(WireError, match=f"sign {len(nonce)} bytes that are no nonce$") as caught,
    ):
        Link(channel, address, NAMES[0], identity)
    assert_one_line(caught.value)


def test_a_reason_of_the_other_side_is_one_line_of_some_length(keys):
    def refuse(_, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no\x1b[2J\u202e" + "x" * 3000 + "\nround 3: all is well")

    tls, identity = Tls.of_client(keys, NAMES[0]), read_identity(keys, NAMES[0])
    with (
        answering(keys, SERVER, refuse) as address,
        open_channel(address, tls) as channel,
        pytest.raises(UnknownClient, match=r"let this client in: no\\x1b\[2J\\u202ex+$") as caught,
    ):
        Link(channel, address, NAMES[0], identity)
    assert_one_line(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("role", ["client", "helper-1"])
def test_a_certificate_of_another_role_does_not_pass_as_the_server_s(keys, tmp_path, role):
    """A client's is for calling only; a helper listens, but not as the server."""
    files = tmp_path / "keys"
    shutil.copytree(keys, files)
    if role == "client":
        for kind in ("pem", "key"):
            shutil.copyfile(keys / "tls" / f"{NAMES[1]}.{kind}", files / f"client.{kind}")
    tls = Tls.of_client(keys, NAMES[0])
    with answering(files, role, lambda *_: bytes(32)) as address:
        with pytest.raises(BadCertificate) as caught:
            check_server(address, tls, 0.0)
        assert_one_line(caught.value)
        with open_channel(address, tls) as channel, pytest.raises(NetworkError):
            Link(channel, address, NAMES[0], read_identity(keys, NAMES[0]))


@pytest.mark.parametrize("server", ["localhost", "localhost:port", "localhost:70000", ":1"])
def test_an_address_that_is_none(keys, server):
    with pytest.raises(NetworkError, match="takes HOST:PORT"):
        check_server(server, Tls.of_client(keys, NAMES[0]), 0.0)


def test_a_server_that_dies_leaves_one_line(keys, tmp_path):
    hub = Hub(read_roster(keys), setup_message(config_of(), WORDS), 1 << 20)
    port = hub.listen("localhost:0", Tls.of_role(keys, SERVER))
    peer = Peer(keys, Served(RunFolder(tmp_path), f"localhost:{port}"), NAMES[0])
    wait_until(lambda: peer.stages)
    hub._server.stop(None).wait()  # as a kill: no goodbye
    assert isinstance(peer.join().error, ServerGone)
    assert_one_line(peer.error)


FROZEN_SERVER = """
import sys
from pathlib import Path
from loopback import WORDS, config_of
from orchestrator.network.certificates import SERVER, read_roster
from orchestrator.network.hub import Hub
from orchestrator.network.server import setup_message
from orchestrator.network.tls import Tls

keys = Path(sys.argv[1])
hub = Hub(read_roster(keys), setup_message(config_of(), WORDS), 1 << 20)
print(hub.listen("localhost:0", Tls.of_role(keys, SERVER)), flush=True)
sys.stdin.read()
"""


def test_a_frozen_server_is_noticed(keys):
    """The kernel of its machine still takes what is sent: nothing but a question that nobody answers shows it."""
    tls, identity = Tls.of_client(keys, NAMES[0]), read_identity(keys, NAMES[0])
    server = subprocess.Popen(
        [sys.executable, "-c", FROZEN_SERVER, str(keys)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        address = f"localhost:{server.stdout.readline().strip()}"
        with (
            open_channel(address, tls, keepalive_s=(0.5, 0.5)) as channel,
            Link(channel, address, NAMES[0], identity) as link,
        ):
            messages_of_server = iter(link)
            next(messages_of_server)  # the setup
            os.kill(server.pid, signal.SIGSTOP)
            with pytest.raises(ServerGone, match="^the connection to localhost:[0-9]+ was lost") as caught:
                next(messages_of_server)
        assert_one_line(caught.value)
    finally:
        server.kill()
        server.communicate(timeout=30)


def test_a_server_that_says_nothing_wears_out_a_client_s_patience(keys):
    hub = Hub(read_roster(keys), setup_message(config_of(), WORDS), 1 << 20)
    port = hub.listen("localhost:0", Tls.of_role(keys, SERVER))
    address, identity = f"localhost:{port}", read_identity(keys, NAMES[0])
    try:
        with (
            open_channel(address, Tls.of_client(keys, NAMES[0])) as channel,
            Link(channel, address, NAMES[0], identity, patience_s=0.5) as link,
            pytest.raises(ServerGone, match="has sent nothing for 0.5 s: .* by --patience$") as caught,
        ):
            for _ in link:
                pass
        assert_one_line(caught.value)
    finally:
        hub.stop("the test is over")


def test_the_decryptor_s_certificate_does_not_pass_as_the_server_s(keys, tmp_path):
    """Who holds the decryptor's files could announce a run of its own and open single uploads."""
    hub, tls = Hub(read_roster(keys), b"", 1000), Tls.of_client(keys, NAMES[0])
    address = f"localhost:{hub.listen('localhost:0', Tls.of_role(keys, DECRYPTOR))}"
    try:
        with pytest.raises(
            BadCertificate, match="^localhost:[0-9]+ shows a certificate that is not the server's"
        ) as caught:
            check_server(address, tls, 0.0)
        assert_one_line(caught.value)
        identity = read_identity(keys, NAMES[0])
        with open_channel(address, tls) as channel, pytest.raises(NetworkError):  # nor behind a first honest handshake
            Link(channel, address, NAMES[0], identity)
        check_server(address, tls, 0.0, "decryptor")
    finally:
        hub.stop("the test is over")


def test_the_server_s_certificate_does_not_pass_as_the_decryptor_s(keys, tmp_path):
    with serving(keys, tmp_path, config_of()) as served:
        with pytest.raises(BadCertificate, match="that is not the decryptor's"):
            RemoteDecryptor(served.address, keys)
        peers = [Peer(keys, served, name) for name in NAMES]
    assert all(peer.join().goodbye for peer in peers)


@pytest.mark.parametrize("port", ["99999", "-1", "https", ""])
def test_a_port_out_of_range_is_refused(port, tmp_path):
    with pytest.raises(PortInUse, match="write HOST:PORT with a port of 0 to 65535"):
        listen(grpc.server(futures.ThreadPoolExecutor(1)), f"localhost:{port}", Tls.of_role(tmp_path, SERVER))
