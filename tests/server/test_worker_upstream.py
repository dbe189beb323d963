"""What of gunicorn's is overridden or relied on is as it was when it was read.

gunicorn is pinned to 27.0.x, but a patch release may change these too. When this fails: read the changes of what it
names, adapt gw/server/worker.py, http1_protocol.py, strict.py, protocol.py and the parsers (each says what it relies on
or replaces), then take the new hash.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import pytest
from gunicorn.asgi.parser import CallbackRequest, PythonProtocol
from gunicorn.asgi.protocol import (
    ASGIProtocol,
    BodyReceiver,
    FlowControl,
    _get_cached_date_header,
    _normalize_sockaddr,
    _RequestHeaderPolicy,
    _validate_response_headers,
)
from gunicorn.workers.base import Worker
from gunicorn.workers.gasgi import ASGIWorker

# What we replace, what we call or that calls us, what we look into.
RELIED_ON: dict[Any, str] = {
    ASGIWorker.__init__: "81a90782c8105c9c",
    ASGIWorker._serve: "986a7a4ab51cb4a7",
    ASGIWorker._shutdown: "9598f4e44fbadf84",
    ASGIWorker._cleanup: "5a98ce1170c53893",
    ASGIWorker.run: "60eab51d5a8d924c",
    ASGIWorker.init_signals: "3ffb903a13e4cebb",
    ASGIWorker.handle_exit_signal: "eb30bb9a34a77e7d",
    ASGIWorker.handle_quit_signal: "1b6c1f2f0c825ebc",
    ASGIWorker.load_wsgi: "292aafe0c9012b8f",
    Worker.__init__: "e0f1de2d60574066",
    Worker.init_process: "114caccd7a0e3c21",
    ASGIProtocol.__init__: "762f28f2b36d0a7b",
    ASGIProtocol.connection_made: "9113fc16d379728e",
    ASGIProtocol.connection_lost: "b137894451589cb3",
    ASGIProtocol._on_headers_complete: "27b70078474dd11e",
    ASGIProtocol._close_transport: "44a7b01bff383f42",
    ASGIProtocol._send_error_response: "d6e9f162ed3e8acd",
    ASGIProtocol._start_http1: "72e4489ac806e31a",
    ASGIProtocol._setup_callback_parser: "32ec6e31437f323b",
    ASGIProtocol._http1_buffered: "9a395c62e980fa94",
    ASGIProtocol.pause_writing: "5f50159718311cfa",
    ASGIProtocol.resume_writing: "5b3b48f7e3ee0445",
    ASGIProtocol._resume_reading: "c37bc75ddac744b5",
    _get_cached_date_header: "ce457a3326ed1421",
    ASGIProtocol.data_received: "cd5471b9a3369ed4",
    ASGIProtocol._feed_callback_parser: "0cfedc190f9e67c2",
    ASGIProtocol._is_websocket_upgrade: "92c3b82993b97ae7",
    ASGIProtocol._handle_websocket: "7672db03c621c0ea",
    ASGIProtocol._safe_write: "c91fb7e1a7560ea8",
    _RequestHeaderPolicy.apply: "23d3cb1712de3a0d",
    _validate_response_headers: "99b57f72f8c49e16",
    _normalize_sockaddr: "05c956aac1bfe85e",
    FlowControl.drain: "19392480538ae113",
    BodyReceiver.__init__: "7c9f2d4115336472",
    BodyReceiver.receive: "b488ac3fc0578816",
    BodyReceiver.set_complete: "45d6d4980f0bb27a",
    CallbackRequest.from_parser: "7b95b70cb8310c64",
    CallbackRequest.should_close: "f0d197304eafbb94",
    CallbackRequest.may_upgrade: "35133e1f3eba9d63",
    BodyReceiver._wait_for_data: "5af27616ffddb34b",
    PythonProtocol.feed: "ff40ff8a76f9a224",
    PythonProtocol.reset: "30c0525fa6cca495",
    PythonProtocol.__init__: "87e38b08472bb3ba",
    PythonProtocol._find_line: "cde988b00e7cba10",
    PythonProtocol._parse_headers: "31cb76afc97d24a6",
    PythonProtocol._finalize_headers: "f08cf2fa7f6fe9fe",
    PythonProtocol._parse_chunked_body: "be459f71ae62a716",
}


def hash_of(function: Any) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


@pytest.mark.parametrize("function", RELIED_ON, ids=lambda function: function.__qualname__)
def test_gunicorn_is_as_it_was_read(function: Any):
    where = f"{inspect.getsourcefile(function)}: {function.__qualname__}"
    assert hash_of(function) == RELIED_ON[function], (
        f"{where} has changed upstream: re-read it, then what of gw/server replaces or calls it"
    )


def test_the_parser_has_the_parts_that_tell_whether_a_head_has_begun():
    parser = PythonProtocol()
    assert (parser._state, bytes(parser._buffer)) == ("request_line", b"")
    parser.feed(b"GE")
    assert (parser._state, bytes(parser._buffer)) == ("request_line", b"GE")
    parser.feed(b"T / HTTP/1.1\r\n")
    assert (parser._state, bytes(parser._buffer)) == ("headers", b"")
    parser.feed(b"Host: a\r\n\r\n")
    assert parser.is_complete
    parser.reset()
    assert (parser._state, bytes(parser._buffer)) == ("request_line", b"")
