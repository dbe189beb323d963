import pytest

from gw.shm.layout import FORMAT
from gw.shm.names import SegmentNames, aside


def test_names_carry_gateway_and_format():
    names = SegmentNames("edge-1")
    assert (names.control, names.log, names.workers) == ("/edge-1.v2.control", "/edge-1.v2.log", "/edge-1.v2.workers")
    assert names.counters == "/edge-1.v2.counters"
    assert names.snapshot(12) == "/edge-1.v2.snapshot.12"


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "-c", "a b", "a\n", "x" * 101, "ä"])
def test_a_name_that_a_file_should_not_have_is_refused(name):
    with pytest.raises(ValueError):
        SegmentNames(name)


def test_a_snapshot_is_told_by_its_name():
    names = SegmentNames("a")
    assert names.snapshot_number(names.snapshot(7)) == 7
    for other in ("/a.v2.snapshot.", "/a.v2.snapshot.x", "/a.v2.snapshot.1.new", "/b.v2.snapshot.7", names.control):
        assert names.snapshot_number(other) is None


def test_what_another_version_made_is_told_by_its_name():
    names = SegmentNames("a")
    told = {"/a.v1.control": 1, "/a.v12.workers": 12, names.log: FORMAT, "/ab.v1.control": None, "/a.v1.b.v1.log": None}
    assert {name: names.format_of(name) for name in told} == told


def test_a_gateway_does_not_own_what_only_begins_like_its_own():
    names, longer = SegmentNames("a"), SegmentNames("a.v2.b")
    assert longer.control.startswith(names.prefix)
    assert not names.owns(longer.control)
    own = (names.control, aside(names.log), names.workers, aside(names.counters), names.counters, names.snapshot(3))
    assert all(map(names.owns, own))
    assert not names.owns(f"{names.counters}.new.new")
