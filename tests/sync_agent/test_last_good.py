"""The file that a host starts from when its store is down: whole or not used, and never trusted blindly."""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgpack
import pytest

from gw.model.digest import content_hash, decode_resource, encode_resource
from gw.model.keys import ResourceKey
from gw.model.routing import route_key
from gw.schema import NO_PLUGINS, load_plugin_schemas, validate
from gw.shm.snapshot import Entry
from sync_agent.judge import FINGERPRINT_BYTES, _files
from sync_agent.last_good import HASH_BYTES, HEADER_BYTES, KEY_BYTES, MAGIC, PIECE_ROWS, LastGood


def entry(id: str) -> tuple[ResourceKey, Entry]:
    nodes = {"type": "roundrobin", "nodes": {"127.0.0.1:80": 1}}
    route = validate("routes", id, {"uri": f"/{id}", "upstream": nodes})
    blob = encode_resource(route)
    key = ResourceKey("routes", id)
    return key, Entry(content_hash(key, blob), blob, route_key(route))


def comparable(entries: dict[ResourceKey, Entry]) -> dict[ResourceKey, Any]:
    """With routing as msgpack gives it back: arrays, whichever they were."""
    return {key: (entry.hash, entry.blob, msgpack.packb(entry.routing)) for key, entry in entries.items()}


BAD = ResourceKey("routes", "bad")
# What no judge would let pass: whether it is there after a load tells whether the file was judged.
UNJUDGED = {BAD: Entry(content_hash(BAD, encode_resource({"uri": 7})), encode_resource({"uri": 7}), None)}


@pytest.fixture
def saved(tmp_path: Path) -> LastGood:
    last_good = LastGood(tmp_path / "data" / "last-good.test")
    last_good.save(dict(map(entry, ("a", "b"))), version=7, revision=42, is_judged=True)
    return last_good


def test_what_is_saved_is_loaded(saved: LastGood):
    kept = LastGood(saved.path).load()
    assert kept is not None
    assert comparable(kept.entries) == comparable(dict(map(entry, ("a", "b"))))
    assert (kept.version, kept.revision) == (7, 42)
    assert saved.path.stat().st_mode & 0o777 == 0o600
    assert saved.key_path.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in saved.path.parent.iterdir()} == {"last-good.test", ".last-good.test.key"}


def test_no_file_is_no_error(tmp_path: Path):
    assert LastGood(tmp_path / "none").load() is None


def test_a_cut_or_changed_file_is_not_used_wherever_it_is_hurt(saved: LastGood):
    whole = saved.path.read_bytes()
    for at in range(len(whole)):
        saved.path.write_bytes(whole[:at])
        assert LastGood(saved.path).load() is None
        saved.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        kept = LastGood(saved.path).load()
        if len(MAGIC) + HASH_BYTES <= at < HEADER_BYTES:  # nobody vouches for it any more, so it is judged
            assert kept is not None
            assert kept.entries == dict(map(entry, ("a", "b")))
        else:
            assert kept is None


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
    saved.save(dict(map(entry, ("a",))) | UNJUDGED, 8, 43, is_judged=False)
    kept = LastGood(saved.path).load()
    assert kept is not None
    assert list(kept.entries) == [ResourceKey("routes", "a")]


def test_a_save_that_is_cut_leaves_the_old_file(saved: LastGood):
    # What a kill between writing aside and renaming leaves: the next save goes over it.
    (saved.path.parent / ".last-good.test.new").write_bytes(b"half")
    kept = LastGood(saved.path).load()
    assert kept is not None
    saved.save(dict([entry("c")]), 9, 44, is_judged=True)
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
    other.save(dict([entry("other")]), 3, 3, is_judged=True)
    saved.save(dict([entry("ours")]), 8, 43, is_judged=True)
    kept = LastGood(other.path).load()
    assert kept is not None
    assert list(kept.entries) == [ResourceKey("routes", "other")]


# Who judged it.


@pytest.fixture
def vouched(saved: LastGood) -> LastGood:
    """A file in which there is something that was never judged, though the file says so."""
    saved.save(dict([entry("a")]) | UNJUDGED, 8, 43, is_judged=True)
    return saved


def is_judged_again(path: Path) -> bool:
    kept = LastGood(path).load()
    assert kept is not None
    assert ResourceKey("routes", "a") in kept.entries
    return BAD not in kept.entries


def test_what_this_judge_let_pass_is_not_judged_again(vouched: LastGood):
    assert not is_judged_again(vouched.path)


def test_what_is_changed_by_hand_is_judged_whatever_its_hash(vouched: LastGood):
    whole = vouched.path.read_bytes()
    header, body = whole[:HEADER_BYTES], whole[HEADER_BYTES:]
    assert body.count(b"/a") == 2  # in the resource, and in what the router needs of it
    forged = body.replace(b"/a", b"/b")
    hashed = MAGIC + blake2b(forged, digest_size=HASH_BYTES).digest()
    vouched.path.write_bytes(hashed + header[len(hashed) :] + forged)
    kept = LastGood(vouched.path).load()
    assert kept is not None
    assert list(kept.entries) == [ResourceKey("routes", "a")]
    assert decode_resource(kept.entries[ResourceKey("routes", "a")].blob)["uri"] == "/b"


def test_other_plugins_are_another_judge(vouched: LastGood):
    """What passed without the plugin's schema, or under another list of plugins, may not pass with it."""
    content = vouched.path.read_bytes()
    some, others = load_plugin_schemas(["forward-auth"]), load_plugin_schemas(["forward-auth", "http-logger"])
    assert len({plugins.fingerprint for plugins in (some, others, NO_PLUGINS)}) == 3
    assert load_plugin_schemas(["forward-auth"]).fingerprint == some.fingerprint
    assert vouched._is_vouched_for(content[:HEADER_BYTES])
    assert not LastGood(vouched.path, some)._is_vouched_for(content[:HEADER_BYTES])


def test_another_judge_judges_again(vouched: LastGood, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sync_agent.last_good.judge_fingerprint", lambda _: bytes(range(FINGERPRINT_BYTES)))
    assert is_judged_again(vouched.path)


@pytest.mark.parametrize("how", ["gone", "another", "short", "readable", "a link"])
def test_without_the_key_it_was_written_with_it_is_judged_again(vouched: LastGood, how: str, tmp_path: Path):
    key = vouched.key_path.read_bytes()
    vouched.key_path.unlink()
    if how == "a link":
        (tmp_path / "key").write_bytes(key)
        (tmp_path / "key").chmod(0o600)
        vouched.key_path.symlink_to(tmp_path / "key")
    elif how != "gone":
        vouched.key_path.write_bytes({"another": bytes(KEY_BYTES), "short": key[:-1], "readable": key}[how])
        vouched.key_path.chmod(0o640 if how == "readable" else 0o600)
    assert is_judged_again(vouched.path)


def test_a_key_that_is_gone_is_made_anew_and_another_ones_is_left_alone(vouched: LastGood):
    key = vouched.key_path.read_bytes()
    vouched.key_path.unlink()
    vouched.save(dict([entry("a")]) | UNJUDGED, 9, 44, is_judged=True)
    assert vouched.key_path.read_bytes() != key
    assert not is_judged_again(vouched.path)
    vouched.key_path.chmod(0o644)
    vouched.save(dict([entry("a")]) | UNJUDGED, 10, 45, is_judged=True)
    vouched.key_path.chmod(0o600)
    assert is_judged_again(vouched.path)


def test_what_nobody_vouches_for_is_judged_though_the_key_is_there(vouched: LastGood):
    vouched.save(dict([entry("a")]) | UNJUDGED, 9, 44, is_judged=False)
    assert is_judged_again(vouched.path)


def test_the_judge_is_known_by_every_schema_and_rule():
    names = {path.name for path in _files()}
    assert {"route.json", "definitions.json", "rules.py", "screen.py", "routing.py", "digest.py", "intake.py"} <= names


def test_a_file_of_many_pieces_is_loaded(saved: LastGood):
    entries = dict(map(entry, map(str, range(2 * PIECE_ROWS + 1))))
    saved.save(entries, 8, 43, is_judged=True)
    for _ in ("believed", "judged"):
        kept = LastGood(saved.path).load()
        assert kept is not None
        assert {key: kept.entries[key].blob for key in kept.entries} == {key: entries[key].blob for key in entries}
        saved.key_path.unlink(missing_ok=True)
