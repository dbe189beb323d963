"""The client's address, by nginx's rules (ngx_http_realip_module, ngx_http_get_forwarded_addr)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.pipeline.addresses import AddressSet, canonical_address
from gw.pipeline.client_address import ClientAddress, RealIp

Pairs = list[tuple[bytes, bytes]]
PEER = "10.0.0.1"
CLIENT = "192.0.2.7"


def networks(*blocks: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, blocks))


def rule(
    header: str = "X-Forwarded-For", *, recursive: bool = False, trusted: tuple[str, ...] = ("10.0.0.0/8",)
) -> RealIp:
    peers = tuple(block if block == "unix:" else ipaddress.ip_network(block) for block in trusted)
    return RealIp(header, peers, is_recursive=recursive)


def chain(*values: str, name: bytes = b"x-forwarded-for") -> Pairs:
    return [(b"host", b"a"), *((name, value.encode("latin-1")) for value in values)]


@pytest.mark.parametrize(
    ("values", "address", "port"),
    [
        ([CLIENT], CLIENT, None),
        # The last one, whatever the client put in front.
        (["6.6.6.6, 192.0.2.7"], CLIENT, None),
        (["6.6.6.6 192.0.2.7"], CLIENT, None),
        (["6.6.6.6,192.0.2.7 , "], CLIENT, None),
        (["6.6.6.6", CLIENT], CLIENT, None),
        # Not recursive: the last one also when it is trusted.
        (["192.0.2.7, 10.0.0.2"], "10.0.0.2", None),
        (["192.0.2.7:4321"], CLIENT, 4321),
        (["[2001:db8::7]:4321"], "2001:db8::7", 4321),
        (["2001:DB8:0::7"], "2001:db8::7", None),
        (["::ffff:192.0.2.7"], CLIENT, None),
    ],
)
def test_last_address_of_a_trusted_peer(values: list[str], address: str, port: int | None) -> None:
    assert rule().find(PEER, 99, chain(*values)) == ClientAddress(address, port, PEER, 99)


@pytest.mark.parametrize(
    "value",
    [
        *("", ",", "unknown", "_hidden", "010.0.0.1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "192.0.2.7:", "192.0.2.7:0"),
        *("192.0.2.7:65536", "192.0.2.7:x", "192.0.2.7:+1", "[::1]", "[192.0.2.7]:80", "[::1]80", "fe80::1%eth0"),
        *("192.0.2.7\t", "192.0.2.7\0", "١.2.3.4".encode().decode("latin-1"), "for=192.0.2.7", '"192.0.2.7"'),
    ],
)
def test_what_is_no_address_leaves_the_peer(value: str) -> None:
    assert rule().find(PEER, 99, chain(value)) == ClientAddress(PEER, 99, PEER, 99)
    assert rule(recursive=True).find(PEER, 99, chain(f"1.2.3.4, {value}x")).remote_addr == PEER


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (["192.0.2.7, 10.0.0.2, 10.0.0.3"], CLIENT),
        (["6.6.6.6, 192.0.2.7, 10.0.0.2"], CLIENT),
        # All are trusted: the first one.
        (["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
        # Over lines of the header.
        (["6.6.6.6, 192.0.2.7", "10.0.0.2", "10.0.0.3"], CLIENT),
        # What is no address ends the walk; what was found so far stands.
        (["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.7, 010.0.0.1, 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.7", "", "10.0.0.2"], "10.0.0.2"),
        ([", 10.0.0.2"], "10.0.0.2"),
        (["192.0.2.7, ::ffff:10.0.0.2"], CLIENT),
        ([", ".join(["192.0.2.7", *["10.0.0.9"] * 10_000])], CLIENT),
    ],
)
def test_recursive_walks_past_the_trusted(values: list[str], address: str) -> None:
    assert rule(recursive=True).find(PEER, 99, chain(*values)).remote_addr == address


@pytest.mark.parametrize(("peer", "believed"), [(PEER, True), ("11.0.0.1", False), ("::1", False), ("unix", False)])
def test_only_trusted_peers_are_believed(peer: str, believed: bool) -> None:
    assert rule().trusts(peer) is believed
    assert rule().find(peer, 5, chain(CLIENT)) == ClientAddress(*((CLIENT, None) if believed else (peer, 5)), peer, 5)


def test_nobody_is_believed_without_a_list() -> None:
    assert rule(trusted=()).find("127.0.0.1", 5, chain("6.6.6.6")).remote_addr == "127.0.0.1"


@pytest.mark.parametrize("peer", ["unix", "unix:", ""])
def test_unix_sockets(peer: str) -> None:
    assert rule(trusted=("unix:",)).find(peer, None, chain(CLIENT)).remote_addr == CLIENT
    assert not rule(trusted=("unix:",)).trusts(PEER)
    # A hop that calls itself so is no address, and none of ours.
    assert rule(recursive=True, trusted=("unix:",)).find(peer, None, chain("1.2.3.4, unix:")).remote_addr == peer


def test_other_headers_count_by_their_first_line() -> None:
    for name in ("X-Real-IP", "CF-Connecting-IP"):
        pairs = chain("6.6.6.6, 192.0.2.7", "9.9.9.9", name=name.lower().encode())
        assert rule(name).find(PEER, 1, pairs).remote_addr == CLIENT
    assert rule("X-Real-IP").find(PEER, 1, chain("6.6.6.6")).remote_addr == PEER


def test_aliases_of_the_header_say_nothing() -> None:
    for name in (b"x_forwarded_for", b"x.forwarded.for", b"x-forwarded_for"):
        assert rule().find(PEER, 1, chain("6.6.6.6", name=name)).remote_addr == PEER


ADDRESSES = st.ip_addresses().map(str) | st.sampled_from(["", "x", "1.2.3", "01.2.3.4", "1.2.3.4 ", "::1%lo", "::"])


@given(ADDRESSES)
def test_one_spelling_agrees_with_ipaddress(text: str) -> None:
    try:
        address = ipaddress.ip_address(text)
        if isinstance(address, ipaddress.IPv6Address):
            expected = None if address.scope_id else str(address.ipv4_mapped or address)
        else:
            expected = str(address)
    except ValueError:
        expected = None
    ours = canonical_address(text)
    assert (ours is None) == (expected is None)
    assert ours is None or ipaddress.ip_address(ours) == ipaddress.ip_address(str(expected))


@given(
    st.lists(
        st.builds(
            lambda address, bits: ipaddress.ip_network(
                f"{address}/{min(bits, address.max_prefixlen)}", strict=False
            ),
            st.ip_addresses(),
            st.integers(0, 128),
        ),
        max_size=8,
    ),
    st.lists(st.ip_addresses(), min_size=1, max_size=8),
)
def test_a_set_holds_what_its_networks_hold(
    blocks: list[ipaddress.IPv4Network | ipaddress.IPv6Network],
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> None:
    held = AddressSet(blocks)
    edges = [edge for block in blocks for edge in (block.network_address, block.broadcast_address)]
    for address in (*addresses, *edges):
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            continue
        expected = any(address in block for block in blocks)
        assert (str(address) in held) is expected
        assert (str(address) in held) is expected


def test_an_endless_supply_of_addresses_does_not_grow_the_table() -> None:
    held = AddressSet(networks("10.0.0.0/8"))
    for number in range(10_000):
        assert str(ipaddress.IPv4Address(0x0A000000 + number)) in held
    assert len(held._known) <= 4096
