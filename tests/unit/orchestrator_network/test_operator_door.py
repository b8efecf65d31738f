"""The operator's page: whoever has the token sees the rounds, nobody else sees anything, and no round waits for it."""

# Over 300 lines: strangers, readers and what is shown, over one door.
from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
from contextlib import contextmanager

import aiohttp
import pytest
from loopback import NAMES, Peer, config_of, serving, wait_until
from web_peer import WebPeer, a_door, ask, enrolment

from orchestrator.aggregator import CostLedger
from orchestrator.errors import BelowThreshold
from orchestrator.network.errors import PortInUse
from orchestrator.network.lobby import Lobby
from orchestrator.network.network_sum import PROTOCOLS
from orchestrator.network.operator_door import OperatorDoor, OperatorLimits
from orchestrator.network.progress import UPLOADS, Progress, RoundSeen
from orchestrator.run.lines import Round
from orchestrator.settings.kinds import SUM_TRAITS

pytestmark = pytest.mark.timeout(60)
QUICK = OperatorLimits(every_s=0.01)


@contextmanager
def operator_door(progress, limits=QUICK):
    with OperatorDoor(progress, ":root { --model: #123456; }", limits) as door:
        yield door, f"http://localhost:{door.listen('localhost:0', None)}"


class Reader:
    """What a browser makes of the events."""

    def __init__(self, url):
        self.view, self.rounds, self.views, self.has_end, self.is_replaced = None, [], [], False, False
        self._url = url

    async def follow(self, until=lambda reader: False):
        async with (
            aiohttp.ClientSession(read_bufsize=1 << 22) as session,
            session.get(f"{self._url}events") as response,
        ):
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            while not (self.has_end or self.is_replaced or until(self)):
                block = (await response.content.readuntil(b"\n\n")).decode()
                if block.startswith("event: "):
                    self._take(*block.strip().split("\ndata: "))
        return self

    def _take(self, name, data):
        content = json.loads(data)
        if name == "event: view":
            self.view = content
            self.views.append(content)
        elif name == "event: rounds":
            self.rounds[content["first"] :] = content["rounds"]
        self.has_end = name == "event: end"
        self.is_replaced = name == "event: replaced"


def follow(url, **options):
    return asyncio.run(Reader(url).follow(**options))


def test_rounds_are_seen_as_they_come(keys, tmp_path):
    """Over gRPC and the web door alike; one client leaves in the second round, and is seen to."""
    progress = Progress("first")
    config = config_of(num_rounds=2)
    with operator_door(progress) as (door, url), a_door() as (web, web_url):
        reader = Reader(f"{url}/{door.token}/")
        with serving(keys, tmp_path, config, web=web, seen=progress) as served:
            peers = [Peer(keys, served, name) for name in NAMES[:-1]]
            peers.append(WebPeer(keys, web_url, NAMES[-1]))

            def is_over(reader):
                return len(reader.rounds) == 2

            asyncio.run(reader.follow(until=is_over))
            for peer in peers:
                peer.join()
    lines = served.rounds
    assert [own["round_num"] for own in reader.rounds] == [1, 2]
    assert [own["survivors"] for own in reader.rounds] == [6, 6]
    assert [own["metrics"] for own in reader.rounds] == [{"update_norm": line.metrics["update_norm"]} for line in lines]
    view = reader.view
    assert (view["run"], view["kind"], view["num_rounds"]) == ("first", "secagg", 2)
    assert [own["client_id"] for own in view["clients"]] == sorted(NAMES)
    assert view["stages"][:2] == ["train", "advertise"]
    upload = view["upload"]
    assert upload["client_id"] in NAMES
    assert len(bytes.fromhex(upload["sample"])) == 48


def test_the_bill_counts_each_message_of_each_client(keys, tmp_path):
    progress, sent = Progress(), {}

    class Counting(Peer):
        def _talk(self, link):
            answer, sent[self._name] = link.send, [0, 0]

            def send(message):
                sent[self._name][0] += len(message)
                answer(message)

            link.send = send
            super()._talk(link)

    with serving(keys, tmp_path, config_of(), seen=progress) as served:
        for peer in [Counting(keys, served, name) for name in NAMES]:
            peer.join()
    up = {own.client_id: own.bytes_up for own in progress.view().clients if own.client_id in NAMES}
    assert up == {name: total for name, (total, _) in sent.items()}
    (line,) = served.rounds
    down = [own.bytes_down for own in progress.view().clients if own.client_id in NAMES]
    assert min(down) > sum(stage.bytes_down for stage in line.cost.per_client.values())  # and the model, and the words


def test_a_client_that_leaves_is_seen_to_and_not_in_the_sum(keys, tmp_path):
    progress = Progress()
    with serving(keys, tmp_path, config_of(), seen=progress) as served:
        peers = [Peer(keys, served, name, {"upload": "hang up"} if name == NAMES[0] else None) for name in NAMES]
        for peer in peers:
            peer.join()
    states = {own.client_id: own.state for own in progress.view().clients}
    assert states == {NAMES[0]: "silent", **dict.fromkeys(NAMES[1:], "summed")}
    (seen,) = progress.rounds_after(0, 10)
    assert (seen.survivors, seen.selected, seen.lost) == (5, 6, (NAMES[0],))


STRANGERS = {
    "the root": ("GET", "/"),
    "no token": ("GET", "/operator.js"),
    "another token": ("GET", f"/{'A' * 43}/"),
    "another token's events": ("GET", f"/{'A' * 43}/events"),
    "a part of the token": ("GET", "/{token:.42}/"),
    "more than the token": ("GET", "/{token}A/events"),
    "the token elsewhere": ("GET", "/x/{token}/"),
    "the token as a query": ("GET", "/?{token}"),
    "another method": ("POST", f"/{'A' * 43}/events"),
    "a method of WebDAV": ("PROPFIND", "/"),
    "no path": ("OPTIONS", "*"),
    "letters of no encoding": ("GET", "/%ff%fe/events"),
}


@pytest.mark.parametrize(("method", "path"), STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_gets_one_answer_whatever_it_asks(caplog, method, path):
    progress = Progress()
    with operator_door(progress) as (door, url):
        before = raw_answer(url, method, path.format(token=door.token))
        progress.wait(3)
        during = raw_answer(url, method, path.format(token=door.token))
        assert during == before == raw_answer(url, "GET", "/nothing")
        assert before.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert b"404: Not Found" in before
        assert door.token.encode() not in before
    assert caplog.messages == []


def raw_answer(url, method, path):
    """All bytes of the answer but its date and, of a method without one, its body."""

    async def once():
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return re.sub(rb"Date: [^\r]*", b"", answer)

    return asyncio.run(once())


def test_the_page_runs_its_own_files_only_and_is_kept_nowhere():
    with operator_door(Progress()) as (door, url):
        for name in ("", "operator.js", "curves.js", "operator.css", "colours.css", "icon.svg"):
            status, headers, body = ask("GET", f"{url}/{door.token}/{name}")
            assert (status, headers["Cache-Control"]) == (200, "no-store")
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in headers
            assert not re.search(rb"https?://(?!www\.w3\.org)|<style|style=|onclick|<script>", body)
        assert b"--model: #123456" in ask("GET", f"{url}/{door.token}/colours.css")[2]
        for name in ("../progress.py", "operator_door.py", "nothing", ""):
            assert ask("POST", f"{url}/{door.token}/{name}")[0] in (404, 405)
        assert ask("GET", f"{url}/{door.token}/..%2fprogress.py")[0] == 404


def test_the_token_alone_opens_nothing_under_another_name_of_this_machine():
    with operator_door(Progress()) as (door, url):
        assert ask("GET", f"{url}/{door.token}/", headers={"Host": "elsewhere.example"})[0] == 421
        assert ask("GET", f"{url}/{door.token}/")[0] == 200


def test_each_server_has_a_token_of_its_own_of_256_bits():
    tokens = set()
    for _ in range(3):
        with operator_door(Progress()) as (door, _):
            tokens.add(door.token)
    assert len(tokens) == 3
    assert {len(token) for token in tokens} == {43}


def test_other_machines_are_not_served_without_tls():
    with OperatorDoor(Progress(), "") as door, pytest.raises(PortInUse, match="--operator 0.0.0.0:0: .*TLS only"):
        door.listen("0.0.0.0:0", None)


def many_rounds(progress, number):
    """Rounds whose lines are larger than what the sockets between hold."""
    names = tuple(f"client{index:060}" for index in range(200))
    progress._rounds += [RoundSeen(index, "abandoned", "", 200, 0, names, 1.0, {}) for index in range(number)]


def test_a_reader_that_takes_nothing_is_dropped_and_holds_up_nobody():
    progress = Progress()
    many_rounds(progress, 3000)  # 40 MB, which a reader of a busy machine takes in less than write_s
    with operator_door(progress, OperatorLimits(every_s=0.01, write_s=3.0)) as (door, url):

        async def stall():
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1)
            try:
                writer.transport.pause_reading()
                writer.write(f"GET /{door.token}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await in_thread(lambda: door._readers)
                seen = await Reader(f"{url}/{door.token}/").follow(until=lambda own: own.view is not None)
                await in_thread(lambda: not door._readers)
                return seen
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        assert len(asyncio.run(stall()).rounds) == 3000


def test_one_reader_too_many_ends_the_oldest_which_is_told():
    """A browser that is cut off without a word comes back, and would end the next one, again and again."""
    with operator_door(Progress(), OperatorLimits(every_s=0.01, most_readers=2)) as (door, url):

        async def crowd():
            first = asyncio.ensure_future(Reader(f"{url}/{door.token}/").follow())
            await in_thread(lambda: len(door._readers) == 1)
            others = [asyncio.ensure_future(Reader(f"{url}/{door.token}/").follow()) for _ in range(2)]
            (ended,), _ = await asyncio.wait([first, *others], return_when=asyncio.FIRST_COMPLETED)
            assert ended is first
            assert (await ended).is_replaced
            assert len(door._readers) == 2
            for other in others:
                other.cancel()

        asyncio.run(crowd())


async def in_thread(condition):
    await asyncio.get_running_loop().run_in_executor(None, wait_until, condition)


@pytest.mark.parametrize(
    ("error", "phase", "reason"),
    [
        (None, "done", ""),
        (BelowThreshold("ten rounds in a row"), "abandoned", "ten rounds in a row"),
        (KeyboardInterrupt(), "abandoned", "the server was stopped"),
    ],
)
def test_readers_hear_how_it_ended(error, phase, reason):
    progress, seen = Progress(), []
    with contextlib.suppress(BelowThreshold, KeyboardInterrupt), operator_door(progress) as (door, url):
        thread = threading.Thread(target=lambda: seen.append(follow(f"{url}/{door.token}/")))
        thread.start()
        wait_until(lambda: door._readers)
        if error is not None:
            raise error
    thread.join(20)
    assert seen[0].has_end
    assert (seen[0].view["phase"], seen[0].view["reason"]) == (phase, reason)


def test_the_lobby_shows_how_many_codes_were_used(keys):
    progress, lobby = Progress(), Lobby(keys, ["AAAA-BBBB-CCCC", "DDDD-EEEE-FFFF"])
    progress.open_lobby(lobby)
    lobby.enrol(json.dumps(enrolment("AAAA-BBBB-CCCC", "phone")).encode())
    view = progress.view()
    assert (view.phase, view.enrolled, view.wanted, view.clients) == ("lobby", 1, 2, ())


def line_of_round(survivors, **metrics):
    names = tuple(f"p{index}" for index in range(survivors))
    values = {"round_num": 1, "outcome": "completed", "selected": names, "survivors": names, "metrics": metrics}
    return Round(**values, stage_s={}, cost=CostLedger(), weights_sha256="", wall_s=1.0)


def test_figures_of_few_people_and_of_other_things_are_held_back():
    progress = Progress()
    dev = {"dev_top1": 0.2, "dev_loss": 4.0}
    progress.resume(
        [
            line_of_round(10, train_loss=5.0, num_tokens=7.0, update_norm=1.0, **dev, dev_people=10.0),
            line_of_round(9, train_loss=5.0, update_norm=2.0, **dev, dev_people=9.0),
            line_of_round(10, update_norm=float("nan"), **dev),  # older runs did not count the dev people
        ]
    )
    assert [own.metrics for own in progress.rounds_after(0, 10)] == [
        {"train_loss": 5.0, "update_norm": 1.0, **dev},
        {"update_norm": 2.0},
        dev,
    ]


def test_each_sum_over_the_network_has_an_upload_to_show():
    assert set(UPLOADS) == set(PROTOCOLS)
    assert set(UPLOADS) <= set(SUM_TRAITS)


def test_a_server_without_the_page_loads_no_aiohttp():
    script = "import sys, orchestrator.network.serve, orchestrator.cli.operator; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
