"""Which role each socket gets, and which lists of sockets are refused."""

from __future__ import annotations

import pytest

from gw.errors import ConfigError
from gw.server.listeners import Listener, assign

WANTED = (
    Listener("traffic", "0.0.0.0", 9080),
    Listener("traffic", "::1", 9080),
    Listener("admin", "127.0.0.1", 9180),
    Listener("status", "127.0.0.1", 7085),
    Listener("metrics", "127.0.0.1", 9091),
)
NAMES = [("0.0.0.0", 9080), ("::1", 9080, 0, 0), ("127.0.0.1", 9180), ("127.0.0.1", 7085), ("127.0.0.1", 9091)]


def roles(names: list) -> list[str]:
    return [listener.role for listener in assign(names, WANTED)]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]])
def test_the_address_tells_the_role_in_any_order(order: list[int]):
    assert roles([NAMES[i] for i in order]) == [WANTED[i].role for i in order]


def test_the_place_tells_where_the_address_cannot():
    assert roles([("10.0.0.1", 80), *NAMES[1:]]) == [listener.role for listener in WANTED]
    assert roles([*NAMES[:4], "/run/metrics.sock"]) == [listener.role for listener in WANTED]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([*NAMES, ("127.0.0.1", 1)], "127.0.0.1:1"),
        (NAMES[:3], "status 127.0.0.1:7085, metrics 127.0.0.1:9091"),
        (NAMES[:2] + NAMES[3:], "admin 127.0.0.1:9180"),
        # Not in its place, so no guess is made.
        ([NAMES[1], ("10.0.0.1", 80), *NAMES[2:]], "10.0.0.1:80"),
        # Nor for a second socket of an address that has its role.
        ([*NAMES[:4], NAMES[0]], "0.0.0.0:9080"),
    ],
)
def test_sockets_that_do_not_fit_are_refused(names: list, complaint: str):
    with pytest.raises(ConfigError) as caught:
        assign(names, WANTED)
    assert complaint in str(caught.value)


def test_ipv6_is_written_in_brackets():
    assert [listener.address for listener in WANTED[:2]] == ["0.0.0.0:9080", "[::1]:9080"]
