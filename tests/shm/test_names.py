import pytest

from gw.shm.names import SegmentNames, aside


def test_names_carry_gateway_and_format():
    names = SegmentNames("edge-1")
    assert (names.control, names.log, names.workers) == ("/edge-1.v1.control", "/edge-1.v1.log", "/edge-1.v1.workers")
    assert names.counters == "/edge-1.v1.counters"
    assert names.snapshot(12) == "/edge-1.v1.snapshot.12"


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "-c", "a b", "a\n", "x" * 101, "ä"])
def test_a_name_that_a_file_should_not_have_is_refused(name):
    with pytest.raises(ValueError):
        SegmentNames(name)


def test_a_snapshot_is_told_by_its_name():
    names = SegmentNames("a")
    assert names.snapshot_number(names.snapshot(7)) == 7
    for other in ("/a.v1.snapshot.", "/a.v1.snapshot.x", "/a.v1.snapshot.1.new", "/b.v1.snapshot.7", names.control):
        assert names.snapshot_number(other) is None


def test_a_gateway_does_not_own_what_only_begins_like_its_own():
    names, longer = SegmentNames("a"), SegmentNames("a.v1.b")
    assert longer.control.startswith(names.prefix)
    assert not names.owns(longer.control)
    own = (names.control, aside(names.log), names.workers, aside(names.counters), names.counters, names.snapshot(3))
    assert all(map(names.owns, own))
    assert not names.owns(f"{names.counters}.new.new")
