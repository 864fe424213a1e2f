"""The test equipment itself: the proxy swallows without a reset, the judge sees what the contract forbids."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hil_tests.broker import Proxy
from hil_tests.consumer import Judge


class Echo:
    """A server that answers every line with itself."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    @staticmethod
    def _answer(client: socket.socket) -> None:
        with client:
            while data := client.recv(100):
                client.sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    echo = Echo()
    proxy = Proxy(echo.port)
    yield proxy
    proxy.close()
    echo.close()


def _connect(proxy: Proxy, timeout_s: float = 5) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout_s)


def test_the_proxy_is_half_open_while_silent_and_resets_afterwards(proxy: Proxy) -> None:
    """Bytes sent in the silence vanish with no end of file; afterwards the old connection is dead."""
    with _connect(proxy) as client:
        client.sendall(b"one")
        assert client.recv(10) == b"one"
        proxy.silence()
        client.sendall(b"two")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        proxy.restore()
        client.settimeout(5)
        try:
            assert client.recv(10) == b""
        except ConnectionResetError:
            pass
    with _connect(proxy) as client:
        client.sendall(b"three")
        assert client.recv(10) == b"three"


def _record(seq: int, lane: str = "fresh", resent: bool = False, value: int = 1) -> dict[str, Any]:
    return {"node": "0001", "epoch": 5, "seq": seq, "lane": lane, "resent": resent, "readings": value}


def test_the_judge_drops_copies_and_finds_disorder_and_conflicts() -> None:
    """A copy is counted, disorder inside one lane and other content under one id are problems."""
    judge = Judge()
    for record in (_record(1), _record(3), _record(3, resent=True), _record(2, resent=True)):
        judge.take(record)
    assert (len(judge.records), judge.copies, judge.problems) == (3, 1, [])
    judge.take(_record(2, lane="fresh"))
    assert judge.problems == []
    judge.take(_record(9))
    judge.take(_record(8))
    assert "out of order" in judge.problems[0]
    judge.take(_record(9, value=2))
    assert "different content" in judge.problems[1]


def test_the_judge_knows_no_order_of_what_there_was_when_a_backup_was_restored() -> None:
    """What came before is still known as a copy, and what nodes make after it is in order again."""
    judge = Judge()
    judge.take(_record(9))
    judge.gateway_restored([("0001", 5, 10), ("0001", 5, 9)])
    for record in (_record(4), _record(9), _record(3), _record(10)):
        judge.take(record)
    assert (judge.problems, judge.copies) == ([], 1)
    judge.take(_record(12))
    judge.take(_record(11))
    assert "out of order" in judge.problems[0]
