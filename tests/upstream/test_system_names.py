"""What /etc/hosts and /etc/resolv.conf say, and which full names a name may mean."""

import pytest

from gw.upstream.system_names import ResolvConf, names_to_try, parse_hosts, parse_resolv_conf


def test_hosts() -> None:
    text = "# all\n"
    text += "127.0.0.1\tlocalhost Me\n::1 localhost # v6\nnonsense a\n10.0.0.1\n\n10.0.0.2 me other\n127.0.0.1 me\n"
    assert parse_hosts(text) == {
        "localhost": ("127.0.0.1", "::1"),
        "me": ("127.0.0.1", "10.0.0.2"),
        "other": ("10.0.0.2",),
    }


LOCAL = (("127.0.0.1", 53),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ResolvConf(LOCAL, (), 1)),
        ("nameserver 10.0.0.1\nnameserver ::1\n", ResolvConf((("10.0.0.1", 53), ("::1", 53)), (), 1)),
        ("nameserver nonsense\nnameserver\n# nameserver 10.0.0.1\n", ResolvConf(LOCAL, (), 1)),
        ("nameserver 1.1.1.1\n" * 5, ResolvConf((("1.1.1.1", 53),) * 3, (), 1)),
        ("domain a.test\nsearch B.test. c.test .\n", ResolvConf(LOCAL, ("b.test", "c.test"), 1)),
        ("options rotate ndots:5 edns0\noptions ndots:x\n", ResolvConf(LOCAL, (), 5)),
        ("options ndots:99\n", ResolvConf(LOCAL, (), 15)),
    ],
)
def test_resolv_conf(text: str, expected: ResolvConf) -> None:
    assert parse_resolv_conf(text) == expected


@pytest.mark.parametrize(
    ("name", "ndots", "tried"),
    [
        ("a", 1, ("a.x.test", "a.y.test", "a")),
        ("a.b", 1, ("a.b", "a.b.x.test", "a.b.y.test")),
        ("a.b", 5, ("a.b.x.test", "a.b.y.test", "a.b")),
        ("a.b.", 5, ("a.b",)),
        ("a", 0, ("a", "a.x.test", "a.y.test")),
    ],
)
def test_full_names(name: str, ndots: int, tried: tuple[str, ...]) -> None:
    assert names_to_try(name, ("x.test", "y.test"), ndots) == tried
