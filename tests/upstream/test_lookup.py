"""Looking names up: a real DNS server on loopback, real files in the place of /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gw.upstream.lookup import HOSTS_TTL_S, ResolverOptions, SystemLookup
from gw.upstream.resolve import Found, NoSuchName
from tests.support.dns_server import GARBAGE, REFUSED, SERVFAIL, SILENT, DnsServer, Records, dns_server
from tests.support.ports import free_ports

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with dns_server() as running:
        running.records.update(
            {
                "both.test": Records(a=["10.0.0.1", "10.0.0.2"], aaaa=["2001:db8::1"], ttl_s=30),
                "six.test": Records(aaaa=["2001:db8::6"], ttl_s=9),
                "alias.test": Records(alias_of="both.test", ttl_s=7),
                "lazy.test": Records(alias_of="six.test", ttl_s=5, followed=False),
                "loop.test": Records(alias_of="loop2.test", followed=False),
                "loop2.test": Records(alias_of="loop.test", followed=False),
                "empty.test": Records(),
                "many.test": Records(a=[f"10.1.0.{number}" for number in range(100)], ttl_s=60),
                "short.corp.test": Records(a=["10.0.0.9"]),
                "a.b": Records(a=["10.0.0.10"]),
                "a.b.corp.test": Records(a=["10.0.0.11"]),
            }
        )
        yield running


def lookup(server: DnsServer, tmp_path: Path, *, hosts: str = "", **options: Any) -> SystemLookup:
    (tmp_path / "hosts").write_text(hosts)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch elsewhere.test corp.test\n")
    given = {"servers": (server.address,), "timeout_s": 4.0, **options}
    return SystemLookup(ResolverOptions(**given), hosts=tmp_path / "hosts", resolv_conf=tmp_path / "resolv.conf")


def run(work: Coroutine[Any, Any, Any], factory: LoopFactory = uvloop.new_event_loop) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


BOTH = ("10.0.0.1", "10.0.0.2", "2001:db8::1")


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("both.test", Found(BOTH, 30)),
        ("BOTH.test.", Found(BOTH, 30)),
        ("six.test", Found(("2001:db8::6",), 9)),
        ("alias.test", Found(BOTH, 7)),
        ("lazy.test", Found(("2001:db8::6",), 5)),
        ("short", Found(("10.0.0.9",), 60)),
        ("a.b", Found(("10.0.0.10",), 60)),
        ("many.test", Found(tuple(f"10.1.0.{number}" for number in range(100)), 60)),
    ],
)
def test_what_a_name_means(
    server: DnsServer, tmp_path: Path, name: str, found: Found, factory: LoopFactory
) -> None:
    answer = run(lookup(server, tmp_path)(name), factory)
    assert (sorted(answer.addresses), answer.ttl_s) == (sorted(found.addresses), found.ttl_s)
    assert [":" in address for address in answer.addresses] == sorted(":" in address for address in answer.addresses)


def test_an_answer_that_does_not_fit_comes_over_tcp(server: DnsServer, tmp_path: Path) -> None:
    assert len(run(lookup(server, tmp_path)("many.test")).addresses) == 100
    assert [asked for asked in server.asked if asked[1] == "A"] == [
        ("many.test", "A", "udp"),
        ("many.test", "A", "tcp"),
    ]


@pytest.mark.parametrize("name", ["absent.test", "empty.test", "x" * 64 + ".test", "a..b", ".", "\u00e4" * 70])
def test_there_is_no_such_name(server: DnsServer, tmp_path: Path, name: str) -> None:
    with pytest.raises(NoSuchName):
        run(lookup(server, tmp_path)(name))


@pytest.mark.parametrize("behaviour", [SERVFAIL, REFUSED, SILENT])
def test_a_server_that_cannot_tell_says_nothing_about_the_name(
    server: DnsServer, tmp_path: Path, behaviour: str
) -> None:
    server.behaviour[""] = behaviour
    with pytest.raises(OSError, match=r"127\.0\.0\.1") as caught:
        run(lookup(server, tmp_path, timeout_s=0.2)("both.test"))
    assert not isinstance(caught.value, NoSuchName)


def test_aliases_that_lead_nowhere_end(server: DnsServer, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="more than 8 aliases"):
        run(lookup(server, tmp_path)("loop.test"))


def test_what_is_no_answer_to_the_question_is_waited_past(server: DnsServer, tmp_path: Path) -> None:
    server.behaviour["both.test"] = GARBAGE
    assert set(run(lookup(server, tmp_path)("both.test")).addresses) == set(BOTH)


@pytest.mark.parametrize("first", [SERVFAIL, SILENT, "closed"])
def test_another_server_is_asked_and_then_goes_first(server: DnsServer, tmp_path: Path, first: str) -> None:
    with dns_server() as bad:
        bad.behaviour[""] = first
        address = ("127.0.0.1", free_ports(1)[0]) if first == "closed" else bad.address
        both = lookup(server, tmp_path, servers=(address, server.address), timeout_s=2.0, ipv6=False)

        async def twice() -> None:
            for _ in range(2):
                assert set((await both("both.test")).addresses) == set(BOTH[:2])

        run(twice())
        assert len(bad.asked) == (0 if first == "closed" else 1)
        assert len(server.asked) == 2


def test_a_datagram_that_is_lost_is_sent_again(server: DnsServer, tmp_path: Path) -> None:
    server.lost = 1
    assert set(run(lookup(server, tmp_path, timeout_s=1.0, ipv6=False)("both.test")).addresses) == set(BOTH[:2])
    assert server.count("both.test") == 2


def test_a_type_that_is_never_answered_does_not_keep_the_other_from_us(server: DnsServer, tmp_path: Path) -> None:
    server.silent_types.add("AAAA")
    assert set(run(lookup(server, tmp_path, timeout_s=30.0)("both.test")).addresses) == set(BOTH[:2])


def test_without_ipv6_nobody_asks_for_it(server: DnsServer, tmp_path: Path) -> None:
    looking = lookup(server, tmp_path, ipv6=False, hosts="::1 both.test\n")
    assert set(run(looking("both.test")).addresses) == set(BOTH[:2])
    assert {asked[1] for asked in server.asked} == {"A"}


def test_a_time_that_is_configured_replaces_the_ttl(server: DnsServer, tmp_path: Path) -> None:
    assert run(lookup(server, tmp_path, valid_s=600.0)("both.test")).ttl_s == 600


def test_search_domains_can_be_left_out(server: DnsServer, tmp_path: Path) -> None:
    with pytest.raises(NoSuchName):
        run(lookup(server, tmp_path, search=False)("short"))
    assert {asked[0] for asked in server.asked} == {"short"}


def test_the_hosts_file_goes_first_and_is_followed(server: DnsServer, tmp_path: Path) -> None:
    looking = lookup(server, tmp_path, hosts="::7 both.test x\n10.9.9.9 Both.Test # a comment\n")

    async def main() -> None:
        assert await looking("both.test") == Found(("10.9.9.9", "::7"), HOSTS_TTL_S)
        (tmp_path / "hosts").write_text("10.8.8.8 both.test\n")
        assert (await looking("both.test")).addresses == ("10.8.8.8",)
        (tmp_path / "hosts").unlink()
        assert set((await looking("both.test")).addresses) == set(BOTH)

    run(main())


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "app.localhost"])
def test_localhost_is_this_host_whatever_a_server_says(server: DnsServer, tmp_path: Path, name: str) -> None:
    assert run(lookup(server, tmp_path)(name)).addresses == ("127.0.0.1", "::1")
    assert server.asked == []
