"""One question to one DNS server: over UDP, and again over TCP when the answer did not fit (RFC 7766).

dnspython packs and parses the messages; its resolver is not used. That keeps failed attempts in cycles of tracebacks,
which in a worker nobody collects (gw/collector.py), and an outage of DNS would fill the memory.

Each question has a socket of its own, connected, so that port and id are both to be guessed by who would forge an
answer (RFC 5452), and the kernel drops what comes from anybody else. No EDNS, as in glibc by default: some servers
choke on it, and what does not fit into 512 bytes comes over TCP.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

# A UDP answer without EDNS has 512 bytes; what is larger than this is no answer to us.
_MAX_DATAGRAM_BYTES: Final = 4096
_LENGTH_BYTES: Final = 2
# More addresses than anybody balances over; what one name may take of the memory.
MAX_ADDRESSES: Final = 128

Server = tuple[str, int]


class Answer(NamedTuple):
    """What a server says of a name and one type of address.

    `ttl_s`: that of the shortest-lived record on the way; of the aliases alone where there are no addresses.
    `alias_of`: the name at the end of the aliases that the server followed, to be asked for next when it came without
    addresses; "": there is none.
    """

    addresses: tuple[str, ...]
    ttl_s: float = 0.0
    alias_of: str = ""


class ServerFailed(OSError):
    """The server answered that it cannot tell (SERVFAIL, REFUSED, ...), or with nothing that can be read."""


async def query(server: Server, name: str, record_type: str, timeout_s: float) -> Answer:
    """Ask for the `A` or `AAAA` records of a full name. Raises OSError: TimeoutError, ServerFailed, or the socket's.

    No address is an answer: there is no such name, or not with this type, or none that DNS could carry.
    """
    try:
        question = dns.message.make_query(name, record_type)
    except dns.exception.DNSException:
        return Answer(())
    async with asyncio.timeout(timeout_s):
        response = await _over_udp(server, question)
        if response is None:
            response = await _over_tcp(server, question)
    return _read(response, record_type)


async def _over_udp(server: Server, question: dns.message.Message) -> dns.message.Message | None:
    """The answer; None when it was cut off."""
    loop = asyncio.get_running_loop()
    with socket.socket(_family(server), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
        asking.connect(server)
        asking.send(question.to_wire())
        while True:
            datagram = await loop.sock_recv(asking, _MAX_DATAGRAM_BYTES)
            # Something else than our answer is waited past: to give up for it would let a forger stop us.
            response = _parse(datagram, question)
            if response is not None:
                return None if response.flags & dns.flags.TC else response


async def _over_tcp(server: Server, question: dns.message.Message) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    with socket.socket(_family(server), socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        await loop.sock_connect(asking, server)
        wire = question.to_wire()
        await loop.sock_sendall(asking, len(wire).to_bytes(_LENGTH_BYTES) + wire)
        length = int.from_bytes(await _exactly(asking, _LENGTH_BYTES))
        response = _parse(await _exactly(asking, length), question)
        if response is None or response.flags & dns.flags.TC:
            raise ServerFailed("unreadable answer over TCP")
        return response


async def _exactly(asking: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        piece = await asyncio.get_running_loop().sock_recv(asking, count - len(received))
        if not piece:
            raise ServerFailed("the connection ended within the answer")
        received += piece
    return bytes(received)


def _parse(wire: bytes, question: dns.message.Message) -> dns.message.Message | None:
    """The message, None when it is none or answers something else."""
    try:
        # A server that cuts off in the middle of a record is cut off for us, too, and not unreadable.
        response = dns.message.from_wire(wire, ignore_trailing=True, continue_on_error=True)
    except (dns.exception.DNSException, ValueError):
        return None
    if response.errors and not response.flags & dns.flags.TC:
        return None
    return response if question.is_response(response) else None


def _read(response: dns.message.Message, record_type: str) -> Answer:
    rcode = response.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(response, dns.message.QueryMessage):
        raise ServerFailed(dns.rcode.to_text(rcode))
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException as error:
        raise ServerFailed(f"unusable answer: {error}") from None
    wanted = dns.rdatatype.from_text(record_type)
    records = [] if chain.answer is None else [record for record in chain.answer if record.rdtype == wanted]
    if records:
        addresses = tuple(dict.fromkeys(str(record) for record in records[:MAX_ADDRESSES]))
        return Answer(addresses, float(chain.minimum_ttl))
    # The TTL of the aliases followed so far holds for what stands at their end.
    is_alias = rcode == dns.rcode.NOERROR and chain.canonical_name != response.question[0].name
    return Answer((), float(chain.minimum_ttl), chain.canonical_name.to_text(omit_final_dot=True) if is_alias else "")


def _family(server: Server) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET
