"""A DNS server of the test's own: real datagrams and TCP on loopback, answering what the test wrote down.

It runs in threads, so that it answers gateways in other processes and on the test's own loop alike.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

_POLL_S = 0.05
# How a server may behave towards a name, or towards all under "".
OK, SERVFAIL, REFUSED, SILENT, GARBAGE = "ok", "servfail", "refused", "silent", "garbage"


@dataclass
class Records:
    """What is known of one name. `alias_of`: a CNAME; `followed`: with the records at its end."""

    a: Sequence[str] = ()
    aaaa: Sequence[str] = ()
    ttl_s: int = 60
    alias_of: str = ""
    followed: bool = True


@dataclass
class DnsServer:
    """`records` by name in lower case, `behaviour` by name or for all. `asked`: (name, type, udp or tcp).

    `lost`: so many of the next queries get no answer, as when a datagram is lost.
    """

    port: int
    records: dict[str, Records] = field(default_factory=dict)
    behaviour: dict[str, str] = field(default_factory=dict)
    silent_types: set[str] = field(default_factory=set)
    lost: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def count(self, name: str, record_type: str = "A") -> int:
        """How often it was asked for that."""
        return sum(asked[:2] == (name, record_type) for asked in self.asked)

    def answers_to(self, wire: bytes, transport: str) -> list[bytes]:
        """What goes back for a query: nothing, or messages, the last of which is the answer."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        record_type = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, record_type, transport))
        behaviour = self.behaviour.get(name, self.behaviour.get("", OK))
        if self.lost:
            self.lost -= 1
            return []
        if behaviour == SILENT or record_type in self.silent_types:
            return []
        response = dns.message.make_response(query)
        if behaviour in (SERVFAIL, REFUSED):
            response.set_rcode(dns.rcode.from_text(behaviour))
            return [response.to_wire()]
        self._fill(response, name, record_type)
        whole = response.to_wire(max_size=65535)
        if transport == "udp" and len(whole) > 512:
            # As servers do that cut off in the middle of a record.
            response.flags |= dns.flags.TC
            return [response.to_wire(max_size=65535)[:500]]
        if behaviour == GARBAGE:
            forged = dns.message.make_response(query)
            forged.id ^= 0xFFFF
            forged.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "203.0.113.66"))
            return [b"\x00", b"nonsense that is longer than a header", forged.to_wire(), whole]
        return [whole]

    def _fill(self, response: dns.message.Message, name: str, record_type: str) -> None:
        records = self.records.get(name)
        if records is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return
        if records.alias_of:
            alias_of = records.alias_of + "."
            response.answer.append(dns.rrset.from_text(name + ".", records.ttl_s, "IN", "CNAME", alias_of))
            if records.followed:
                self._fill(response, records.alias_of, record_type)
            return
        found = {"A": records.a, "AAAA": records.aaaa}[record_type]
        if found:
            response.answer.append(dns.rrset.from_text(name + ".", records.ttl_s, "IN", record_type, *found))


@contextlib.contextmanager
def dns_server(**records: Records) -> Iterator[DnsServer]:
    """A running server. Names with dots go into `records` afterwards."""
    stop = threading.Event()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        server = DnsServer(listener.getsockname()[1], dict(records))
        datagrams.bind(server.address)
        datagrams.settimeout(_POLL_S)
        listener.settimeout(_POLL_S)
        threads = [
            threading.Thread(target=_serve_udp, args=(server, datagrams, stop)),
            threading.Thread(target=_serve_tcp, args=(server, listener, stop)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield server
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _serve_udp(server: DnsServer, datagrams: socket.socket, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            wire, asker = datagrams.recvfrom(4096)
        except TimeoutError:
            continue
        for answer in server.answers_to(wire, "udp"):
            with contextlib.suppress(OSError):
                datagrams.sendto(answer, asker)


def _serve_tcp(server: DnsServer, listener: socket.socket, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            asker, _ = listener.accept()
        except TimeoutError:
            continue
        with asker, contextlib.suppress(OSError):
            asker.settimeout(5)
            wire = asker.recv(4096)
            for answer in server.answers_to(wire[2:], "tcp"):
                # In two pieces: whoever reads must be able to put them together.
                asker.sendall(len(answer).to_bytes(2) + answer[:10])
                asker.sendall(answer[10:])
