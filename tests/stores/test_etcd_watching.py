"""What a watch's responses mean, and which keys are ours: tables, no etcd."""

import pytest

from gw.errors import Compacted
from sync_agent.stores.base import Event, Head, KeyValue, WatchBatch
from sync_agent.stores.etcd.keys import KeySpace
from sync_agent.stores.etcd.rpc import kv, pb
from sync_agent.stores.etcd.watching import WatchCanceled, WatchReader

START = 10


def header(revision: int) -> pb.ResponseHeader:
    return pb.ResponseHeader(cluster_id=0xABC, revision=revision)


def put(key: str | bytes, revision: int) -> kv.Event:
    key = key.encode() if isinstance(key, str) else key
    return kv.Event(type=kv.Event.PUT, kv=kv.KeyValue(key=key, value=b"v", create_revision=5, mod_revision=revision))


def delete(key: str, revision: int) -> kv.Event:
    return kv.Event(type=kv.Event.DELETE, kv=kv.KeyValue(key=key.encode(), mod_revision=revision))


def response(revision: int, *events: kv.Event, **fields: object) -> pb.WatchResponse:
    return pb.WatchResponse(header=header(revision), watch_id=7, events=events, **fields)


def opened(start: int = START) -> WatchReader:
    reader = WatchReader(KeySpace("/apisix"), start)
    assert reader.take(response(20, created=True)) == WatchBatch(Head(20, "abc"), ())
    return reader


def test_events_are_seen_up_to_the_last_of_them_not_to_the_stores_revision() -> None:
    batch = opened().take(response(20, put("/apisix/a", 12), delete("/apisix/b", 15)))
    assert batch == WatchBatch(Head(15, "abc"), (Event("a", KeyValue("a", b"v", 5, 12)), Event("b", None)))


def test_a_notification_advances_what_has_been_seen() -> None:
    reader = opened()
    assert reader.take(response(30)) == WatchBatch(Head(30, "abc"), ())
    assert reader.take(response(30)) is None


@pytest.mark.parametrize("revision", [0, START - 1])
def test_a_notification_never_takes_it_back(revision: int) -> None:
    assert opened().take(response(revision)) is None


def test_events_before_the_start_are_not_delivered() -> None:
    reader = opened()
    assert reader.take(response(20, put("/apisix/a", START - 1))) is None
    batch = reader.take(response(20, put("/apisix/a", START - 1), put("/apisix/b", START)))
    assert batch is not None
    assert [event.key for event in batch.events] == ["b"]


def test_events_of_one_revision_stay_together() -> None:
    batch = opened().take(response(20, put("/apisix/a", 12), put("/apisix/b", 12), put("/apisix/c", 13)))
    assert batch is not None
    assert len(batch.events) == 3


def test_a_broadcast_promises_nothing() -> None:
    assert opened().take(pb.WatchResponse(header=header(99), watch_id=-1)) is None


def test_foreign_keys_are_dropped_counted_and_passed_by(caplog: pytest.LogCaptureFixture) -> None:
    keys = KeySpace("/apisix")
    reader = WatchReader(keys, START)
    reader.take(response(20, created=True))
    batch = reader.take(response(20, put("/apisix2/a", 12), put("/apisix/b", 13), put(b"/apisix/\xff", 14)))
    assert batch == WatchBatch(Head(14, "abc"), (Event("b", KeyValue("b", b"v", 5, 13)),))
    assert keys.dropped == 2
    assert "outside of the prefix" in caplog.text
    assert "not UTF-8" in caplog.text


def test_compaction_ends_the_watch_with_its_revision() -> None:
    with pytest.raises(Compacted) as caught:
        opened().take(response(20, canceled=True, compact_revision=18))
    assert caught.value.revision == 18


def test_a_cancel_says_whether_the_watch_ever_stood() -> None:
    with pytest.raises(WatchCanceled, match="permission denied") as caught:
        WatchReader(KeySpace("/apisix"), START).take(
            response(20, created=True, canceled=True, cancel_reason="etcdserver: permission denied")
        )
    assert caught.value.at_start
    with pytest.raises(WatchCanceled, match="no reason given") as caught:
        opened().take(response(20, canceled=True))
    assert not caught.value.at_start


@pytest.mark.parametrize(
    ("prefix", "start", "end"),
    [
        ("/apisix", b"/apisix/", b"/apisix0"),
        ("/apisix/", b"/apisix/", b"/apisix0"),
        ("/a/b//", b"/a/b/", b"/a/b0"),
        ("no-slash", b"no-slash/", b"no-slash0"),
        ("/x%y z/ü", b"/x%y z/\xc3\xbc/", b"/x%y z/\xc3\xbc0"),
        ("/", b"/", b"0"),
    ],
)
def test_the_range_is_the_prefix_and_nothing_else(prefix: str, start: bytes, end: bytes) -> None:
    keys = KeySpace(prefix)
    assert (keys.start, keys.end) == (start, end)
    assert keys.encode("routes/1") == start + b"routes/1"
