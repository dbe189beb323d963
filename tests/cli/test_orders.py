"""The socket on which reloads are ordered: who is heard, who is believed, and what comes back."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import select
import socket
import stat
from pathlib import Path

import pytest

from gw.cli.orders import Order, Orders, order_reload, taking_orders
from gw.errors import JitterwayError


def taken(orders: Orders) -> Order | None:
    assert select.select([orders], [], [], 10)[0]
    return orders.take()


@pytest.mark.parametrize("with_agent", [False, True])
def test_an_order_and_its_answer(tmp_path: Path, with_agent: bool) -> None:
    path = tmp_path / "sock"
    with concurrent.futures.ThreadPoolExecutor() as pool, taking_orders(path) as orders:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        asked = pool.submit(order_reload, path, os.getpid(), with_agent=with_agent, timeout_s=10)
        order = taken(orders)
        assert order is not None
        assert order.with_agent is with_agent
        order.answer(True, "two\nlines")
        outcome = asked.result(10)
        assert (outcome.is_done, outcome.text) == (True, "two\nlines")
    assert not path.exists()


@pytest.mark.parametrize(
    "sent", [b"", b"\n", b"{}\n", b"[]\n", b'"reload"\n', b'{"order": "dance"}\n', b"x" * 9000, b"\xff\n"]
)
def test_what_is_no_order_is_hung_up_on(tmp_path: Path, sent: bytes) -> None:
    with taking_orders(tmp_path / "sock") as orders, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(tmp_path / "sock"))
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert taken(orders) is None
        with contextlib.suppress(ConnectionResetError):  # there was more than was read
            assert client.recv(1) == b""
    # Nobody has connected: nothing to take, and no waiting.
    with taking_orders(tmp_path / "sock") as orders:
        assert orders.take() is None


def test_who_asked_may_be_gone(tmp_path: Path) -> None:
    with taking_orders(tmp_path / "sock") as orders:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "sock"))
            client.sendall(b'{"order": "reload"}\n')
        order = taken(orders)
        assert order is not None
        assert order.with_agent is False
        order.answer(False, "nobody hears this")


def test_another_process_than_the_holder_is_not_believed(tmp_path: Path) -> None:
    with taking_orders(tmp_path / "sock"), pytest.raises(JitterwayError, match="belongs to pid"):
        order_reload(tmp_path / "sock", os.getpid() + 1, with_agent=False, timeout_s=1)


def test_nobody_who_listens_answers_or_stays_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with pytest.raises(JitterwayError, match="does not listen"):
        order_reload(path, 1, with_agent=False, timeout_s=1)
    with taking_orders(path), pytest.raises(JitterwayError, match=r"no answer from pid \d+ within 0.05 s"):
        order_reload(path, os.getpid(), with_agent=False, timeout_s=0.05)
    with concurrent.futures.ThreadPoolExecutor() as pool, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        asked = pool.submit(order_reload, path, os.getpid(), with_agent=False, timeout_s=10)
        listening.accept()[0].close()
        with pytest.raises(JitterwayError, match="ended, or refused us"):
            asked.result(10)


def test_a_dead_predecessors_socket_is_replaced_and_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "sock"))
    with taking_orders(tmp_path / "sock"):
        pass
    with pytest.raises(JitterwayError, match=r"cannot listen on .*missing"), taking_orders(tmp_path / "missing" / "s"):
        pass
