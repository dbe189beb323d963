"""The file that a host starts from when its store is down: whole or not used, and never trusted blindly."""

import os
from pathlib import Path

import pytest

from gw.model.digest import content_hash, encode_resource
from gw.model.keys import ResourceKey
from gw.model.routing import route_key
from gw.schema import validate
from gw.shm.snapshot import Entry
from sync_agent.last_good import HEADER_BYTES, LastGood


def entry(id: str) -> tuple[ResourceKey, Entry]:
    nodes = {"type": "roundrobin", "nodes": {"127.0.0.1:80": 1}}
    route = validate("routes", id, {"uri": f"/{id}", "upstream": nodes})
    blob = encode_resource(route)
    key = ResourceKey("routes", id)
    return key, Entry(content_hash(key, blob), blob, route_key(route))


@pytest.fixture
def saved(tmp_path: Path) -> LastGood:
    last_good = LastGood(tmp_path / "data" / "last-good.test")
    last_good.save(dict(map(entry, ("a", "b"))), version=7, revision=42)
    return last_good


def test_what_is_saved_is_loaded(saved: LastGood):
    kept = LastGood(saved.path).load()
    assert kept is not None
    assert kept.entries == dict(map(entry, ("a", "b")))
    assert (kept.version, kept.revision) == (7, 42)
    assert saved.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in saved.path.parent.iterdir()] == ["last-good.test"]


def test_no_file_is_no_error(tmp_path: Path):
    assert LastGood(tmp_path / "none").load() is None


def test_a_cut_or_changed_file_is_not_used_wherever_it_is_hurt(saved: LastGood):
    whole = saved.path.read_bytes()
    for at in range(len(whole)):
        saved.path.write_bytes(whole[:at])
        assert LastGood(saved.path).load() is None
        saved.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert LastGood(saved.path).load() is None


def test_a_file_that_others_may_write_or_that_is_a_link_is_not_used(saved: LastGood, tmp_path: Path):
    saved.path.chmod(0o620)
    assert LastGood(saved.path).load() is None
    saved.path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(saved.path)
    assert LastGood(link).load() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_strangers_file_is_not_used(saved: LastGood):
    os.chown(saved.path, 65534, -1)
    assert LastGood(saved.path).load() is None


def test_a_resource_that_no_longer_passes_is_left_out_and_the_rest_is_served(saved: LastGood):
    bad = encode_resource({"uri": 7})
    key = ResourceKey("routes", "bad")
    saved.save({**dict(map(entry, ("a",))), key: Entry(content_hash(key, bad), bad, None)}, 8, 43)
    kept = LastGood(saved.path).load()
    assert kept is not None
    assert list(kept.entries) == [ResourceKey("routes", "a")]


def test_a_save_that_is_cut_leaves_the_old_file(saved: LastGood):
    # What a kill between writing aside and renaming leaves: the next save goes over it.
    (saved.path.parent / ".last-good.test.new").write_bytes(b"half")
    kept = LastGood(saved.path).load()
    assert kept is not None
    saved.save(dict([entry("c")]), 9, 44)
    kept = LastGood(saved.path).load()
    assert kept is not None
    assert kept.version == 9
    assert saved.path.read_bytes()[HEADER_BYTES:]


def test_a_file_no_newer_than_what_is_known_is_not_judged_but_its_version_is(saved: LastGood):
    again = LastGood(saved.path)
    assert again.load(newer_than=7) is None
    assert again.version == 7
    assert again.load(newer_than=6) is not None


def test_gateways_that_share_a_directory_do_not_write_aside_to_the_same_place(saved: LastGood):
    # "new" is a name like any other; its file must not be what another gateway writes aside.
    other = LastGood(saved.path.with_name("last-good.new"))
    other.save(dict([entry("other")]), 3, 3)
    saved.save(dict([entry("ours")]), 8, 43)
    kept = LastGood(other.path).load()
    assert kept is not None
    assert list(kept.entries) == [ResourceKey("routes", "other")]
