from gw.upstream.pool import IdlePool
from gw.upstream.target import Target, TlsIdentity

A = Target("a", 80)


def test_last_used_first_and_the_oldest_is_too_many() -> None:
    pool: IdlePool[str] = IdlePool()
    assert pool.take(A) is None
    assert [pool.put(A, name, 2) for name in ("one", "two", "three")] == [None, None, "one"]
    assert repr(pool) == "<IdlePool a:80=2>"
    assert [pool.take(A), pool.take(A), pool.take(A)] == ["three", "two", None]


def test_nothing_is_kept_where_none_may_idle() -> None:
    pool: IdlePool[str] = IdlePool()
    assert pool.put(A, "one", 0) == "one"
    assert len(pool) == 0


def test_targets_never_mix() -> None:
    pool: IdlePool[Target] = IdlePool()
    targets = [
        A,
        Target("a", 443),
        Target("a", 80, TlsIdentity("a", verify=True)),
        Target("a", 80, TlsIdentity("a", verify=False)),
        Target("a", 80, TlsIdentity("b", verify=True)),
    ]
    for target in targets:
        pool.put(target, target, 9)
    assert len(pool) == len(targets)
    assert [pool.take(target) for target in targets] == targets


def test_discard() -> None:
    pool: IdlePool[str] = IdlePool()
    pool.put(A, "one", 9)
    pool.put(A, "two", 9)
    pool.discard(A, "one")
    pool.discard(A, "never in it")
    pool.discard(Target("unknown", 1), "one")
    assert pool.take(A) == "two"
    assert len(pool) == 0
    assert repr(pool) == "<IdlePool empty>"


def test_names_in_tls_share_what_their_node_may_keep() -> None:
    pool: IdlePool[str] = IdlePool()
    targets = [Target("a", 443, TlsIdentity(name, verify=False)) for name in "xyz"]
    assert [pool.put(target, target.tls.server_name, 2) for target in targets if target.tls] == [None, None, "x"]
    assert pool.put(Target("b", 443, TlsIdentity("x", verify=False)), "other node", 2) is None
    assert [pool.take(target) for target in targets] == [None, "y", "z"]
    assert pool.put(targets[0], "again", 2) is None
    assert pool.holds(targets[0], "again")
    assert pool.put(Target("a", 443, TlsIdentity("x", verify=True)), "verified", 1) is None
    pool.discard(targets[0], "again")
    assert not pool.holds(targets[0], "again")
    assert repr(pool) == "<IdlePool b:443 tls=1, a:443 tls=1>"
