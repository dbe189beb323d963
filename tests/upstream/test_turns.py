"""Which address the next connection goes to; time is what the test says it is."""

from gw.upstream.turns import REST_S, Turns

THREE = ("a", "b", "c")


def test_connections_take_turns_and_stand_in_for_one_another() -> None:
    turns = Turns()
    assert ["".join(turns.order("n", 80, THREE, 0.0)) for _ in range(4)] == ["abc", "bca", "cab", "abc"]
    assert "".join(turns.order("n", 81, THREE, 0.0)) == "abc", "each port has turns of its own"
    assert "".join(Turns(offset=5).order("n", 80, THREE, 0.0)) == "cab"


def test_one_address_is_always_it() -> None:
    turns = Turns(offset=7)
    turns.failed("a", 80, 0.0)
    assert list(turns.order("n", 80, ("a",), 0.0)) == ["a"]


def test_a_dead_address_goes_last_for_ever_longer_until_it_works() -> None:
    turns, now = Turns(), 0.0
    for rest_s in (10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0):
        turns.failed("a", 80, now)
        assert all(turns.order("n", 80, THREE, now + rest_s - 1)[-1] == "a" for _ in range(3))
        now += rest_s
        assert {turns.order("n", 80, THREE, now)[0] for _ in range(3)} == set(THREE)
    turns.worked("a", 80)
    turns.failed("a", 80, now)
    assert {turns.order("n", 80, THREE, now + REST_S[0])[0] for _ in range(3)} == set(THREE)


def test_when_all_are_dead_all_are_tried() -> None:
    turns = Turns()
    for address in THREE:
        turns.failed(address, 80, 0.0)
    assert sorted(turns.order("n", 80, THREE, 1.0)) == list(THREE)


def test_memory_is_bounded() -> None:
    turns = Turns()
    for number in range(25_000):
        turns.order(f"n{number}", 80, THREE, 0.0)
        turns.failed(f"a{number}", 80, 0.0)
    assert len(turns) <= 20_000
