"""What is let in from the store, what is refused, and what a full list changes."""

import json
from typing import Any

import pytest

from gw.model.digest import decode_resource
from gw.model.keys import ResourceKey
from sync_agent.intake import Intake
from sync_agent.stores.base import Event, KeyValue

LIMIT_BYTES = 10_000
ROUTE = {"uri": "/a", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:80": 1}}}
KEY = ResourceKey("routes", "1")


def kv(key: str, value: Any, revision: int = 5) -> KeyValue:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return KeyValue(key, raw, revision, revision)


def put(key: str, value: Any, revision: int = 5) -> Event:
    return Event(key, kv(key, value, revision))


def test_a_valid_resource_becomes_a_change_with_its_defaults_and_its_routing():
    intake = Intake({}, LIMIT_BYTES)
    [change] = intake.take_events([put("routes/1", ROUTE)])
    assert change.key == KEY
    assert change.blob is not None
    resource = decode_resource(change.blob)
    assert resource["uri"] == "/a"
    assert resource["priority"] == 0
    assert list(change.routing.uris) == ["/a"]
    assert intake.rejections == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b'{"uri": "/a", "uri": "/b"}', "JSON"),
        (b"[" * 5000, "JSON"),
        (["uri"], "object"),
        ({"uri": 7}, "uri"),
        ({**ROUTE, "nonsense": 1}, "nonsense"),
        ({**ROUTE, "id": "2"}, "id"),
        ({**ROUTE, "desc": "x" * LIMIT_BYTES}, "limit of 10000"),
        ({"uri": "/a", "upstream": {"nodes": {"127.0.0.1:80": 10**30}}}, ""),
    ],
    ids=str,
)
def test_an_invalid_one_is_remembered_with_its_reason_and_blocks_nothing(value: Any, reason: str):
    intake = Intake({KEY: object()}, LIMIT_BYTES)
    changes = intake.take_events([put("routes/1", value, 7), put("routes/2", ROUTE)])
    assert [change.key.id for change in changes] == ["2"]
    [told] = intake.report(10)
    assert (told["kind"], told["id"], told["revision"], told["serves_last_good"]) == ("routes", "1", 7, True)
    assert reason in str(told["reason"])


def test_a_later_good_value_or_a_deletion_ends_the_report():
    intake = Intake({}, LIMIT_BYTES)
    intake.take_events([put("routes/1", b"{"), put("routes/2", b"{")])
    assert [r["serves_last_good"] for r in intake.report(10)] == [False, False]
    changes = intake.take_events([put("routes/1", ROUTE), Event("routes/2", None)])
    assert [change.blob is None for change in changes] == [False, True]
    assert intake.report(10) == []


def test_foreign_keys_and_placeholders_are_left_alone():
    intake = Intake({}, LIMIT_BYTES)
    foreign = [put("routes/", b"init_dir"), put("server_info/x", {}), put("routes", b"x"), put("data_plane/x", b"1")]
    assert intake.take_events(foreign) == []
    assert intake.rejections == {}


def test_a_full_list_changes_what_differs_and_removes_what_is_gone():
    served = {ResourceKey("routes", "1"): 1, ResourceKey("routes", "gone"): 1}
    intake = Intake(served, LIMIT_BYTES)
    intake.take_events([put("routes/bad-and-gone", b"{")])
    reload = intake.begin_reload()
    reload.add_page([kv("routes/", b"init_dir"), kv("routes/1", ROUTE)])
    reload.add_page([kv("routes/2", ROUTE), kv("routes/3", b"{")])
    changes = {change.key.id: change.blob is None for change in reload.finish(served)}
    assert changes == {"1": False, "2": False, "gone": True, "bad-and-gone": True}
    assert [told["id"] for told in intake.report(10)] == ["3"]
    assert intake.ignored_keys == 1


def test_a_second_list_judges_only_what_is_new():
    intake = Intake({KEY: 1}, LIMIT_BYTES)
    for expected in (["1"], []):
        reload = intake.begin_reload()
        reload.add_page([kv("routes/1", ROUTE), kv("routes/bad", b"{")])
        assert [change.key.id for change in reload.finish({KEY: 1})] == expected
    assert [told["id"] for told in intake.report(10)] == ["bad"]


def test_nothing_of_a_list_that_breaks_off_is_taken_for_done():
    intake = Intake({}, LIMIT_BYTES)
    intake.begin_reload().add_page([kv("routes/1", ROUTE), kv("routes/bad", b"{")])
    assert intake.report(10) == []
    reload = intake.begin_reload()
    reload.add_page([kv("routes/1", ROUTE), kv("routes/bad", b"{")])
    assert [change.key.id for change in reload.finish({})] == ["1"]
    assert [told["id"] for told in intake.report(10)] == ["bad"]


def test_a_list_also_deletes_what_was_handed_on_and_waits_to_be_published():
    intake = Intake({}, LIMIT_BYTES)
    assert len(intake.take_events([put("routes/1", ROUTE)])) == 1
    [change] = intake.begin_reload().finish({})
    assert (change.key, change.blob) == (KEY, None)


def test_what_was_deleted_and_put_back_unchanged_while_nobody_looked_is_new():
    intake = Intake({}, LIMIT_BYTES)
    intake.take_events([put("routes/1", ROUTE), Event("routes/1", None)])
    reload = intake.begin_reload()
    reload.add_page([kv("routes/1", ROUTE)])
    assert [(change.key, change.blob is None) for change in reload.finish({})] == [(KEY, False)]


def test_a_mistake_of_ours_in_judging_refuses_that_value_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def judge(kind: str, id: str, resource: Any, *_: Any, **__: Any) -> dict[str, Any]:
        return {"uri": "/a"} if id == "2" else {}[id]

    monkeypatch.setattr("sync_agent.intake.validate", judge)
    intake = Intake({KEY: object()}, LIMIT_BYTES)
    changes = intake.take_events([put("routes/1", ROUTE), put("routes/2", ROUTE)])
    assert [change.key.id for change in changes] == ["2"]
    assert [told["reason"] for told in intake.report(10)] == ["cannot be judged: KeyError"]
    assert "not foreseen" in caplog.text


def test_a_report_names_the_newest():
    intake = Intake({}, LIMIT_BYTES)
    intake.take_events([put(f"routes/{revision}", b"{", revision) for revision in (5, 7, 6)])
    assert [told["revision"] for told in intake.report(2)] == [7, 6]


def test_a_refused_resource_that_is_still_listed_is_not_removed():
    served = {KEY: 1}
    intake = Intake(served, LIMIT_BYTES)
    reload = intake.begin_reload()
    reload.add_page([kv("routes/1", b"{broken")])
    assert reload.finish(served) == []
