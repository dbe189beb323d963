"""One table per rule and mode: routes as (id, uri, hosts, methods, priority), and what requests are answered."""

from typing import Any

import pytest

from gw.router import MODES, RouterIndex, build_router
from tests.router.naive import routing_key

HOST_URI, URI, PARAMETER = MODES


def build(mode: str, routes: list[dict[str, Any]]) -> RouterIndex[str]:
    router = build_router(mode)
    for number, route in enumerate(routes):
        id = route.get("id", str(number))
        uris = route["uri"] if isinstance(route["uri"], list) else [route["uri"]]
        key = routing_key(uris, route.get("methods", ()), route.get("priority", 0), route.get("status", 1))
        router.insert(id, key, route.get("hosts", ()), f"target of {id}")
    router.check()
    return router


def ids(router: RouterIndex[str], queries: list[tuple[str, ...]]) -> list[str | None]:
    found = []
    for path, *rest in queries:
        match = router.match(path, rest[0] if rest else "", rest[1] if len(rest) > 1 else "GET")
        found.append(match and match.id)
    return found


@pytest.mark.parametrize("mode", MODES)
class TestEveryMode:
    @pytest.mark.parametrize(
        ("uri", "yes", "no"),
        [
            ("/foo", ["/foo"], ["/foo/", "/foobar", "/", "/FOO", ""]),
            ("/foo*", ["/foo", "/foobar", "/foo/bar"], ["/fo", "/"]),
            ("/foo/*", ["/foo/", "/foo/a/b"], ["/foo", "/foobar/"]),
            ("/", ["/"], ["", "/a", "//"]),
            ("/*", ["/", "/a", "//", "/a\nb"], [""]),
            ("*", ["", "/", "anything"], []),
            ("/foo/*rest", ["/foo/", "/foo/a"], ["/foo"]),
            ("/a*c", ["/ac", "/abc", "/a/b/c"], ["/ab", "/acd"]),
            ("/*/b/*/d", ["/a/b/c/d", "//b//d", "/b/b/d/b/x/d"], ["/a/b/d", "/a/b/c/d/"]),
            ("/é*", ["/é", "/éa"], ["/e"]),
            ("/v1.0/+(a)", ["/v1.0/+(a)"], ["/v1x0/+(a)", "/v1.0/a"]),
            ("/v1.0/*/c+", ["/v1.0/x/c+"], ["/v1.0/x/cc", "/v1x0/x/c+"]),
            ("/users:batch", ["/users:batch"], ["/usersx", "/users"]),
        ],
    )
    def test_paths(self, mode: str, uri: str, yes: list[str], no: list[str]) -> None:
        router = build(mode, [{"uri": uri}])
        assert [path for path in yes if router.match(path, "any.com", "GET") is None] == []
        assert [path for path in no if router.match(path, "any.com", "GET") is not None] == []

    def test_exact_before_prefix_whatever_the_priority(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a*", "priority": 9}, {"uri": "/a"}])
        assert ids(router, [("/a",), ("/ab",)]) == ["1", "0"]

    def test_longer_head_before_shorter_whatever_the_priority(self, mode: str) -> None:
        router = build(mode, [{"uri": "/*", "priority": 9}, {"uri": "/a*"}, {"uri": "/a/b*"}])
        assert ids(router, [("/a/bc",), ("/a/c",), ("/c",)]) == ["2", "1", "0"]

    def test_higher_priority_first_on_one_path(self, mode: str) -> None:
        routes = [{"uri": uri, "priority": priority} for uri in ("/a", "/b*") for priority in (1, 3, 2, -1)]
        assert ids(build(mode, routes), [("/a",), ("/b",)]) == ["1", "5"]

    def test_equals_by_id_as_text(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a", "id": id} for id in ("b", "9", "10", "a")])
        assert [match.id for match in router.candidates("/a", "")] == ["10", "9", "a", "b"]

    def test_a_longer_uri_first_on_one_head(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a/*", "id": "1"}, {"uri": "/a/*rest", "id": "2"}])
        match = router.match("/a/x/y", "", "GET")
        assert match is not None
        assert (match.id, match.uri, match.params, match.target) == ("2", "/a/*rest", {"rest": "x/y"}, "target of 2")

    def test_methods(self, mode: str) -> None:
        router = build(
            mode,
            [{"uri": "/a", "methods": ["POST", "PUT"]}, {"uri": "/a*", "methods": ["GET"]}, {"uri": "/*"}],
        )
        asked = [("/a", "", method) for method in ("POST", "PUT", "GET", "PURGE", "get", "MADEUP", "")]
        assert ids(router, asked) == ["0", "0", "1", "2", "2", "2", "2"]

    def test_a_method_nobody_names_meets_no_route_with_methods(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a", "methods": ["GET"]}])
        assert ids(router, [("/a", "", "MADEUP"), ("/a", "", "GET")]) == [None, "0"]

    def test_allows_says_what_match_does(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a", "methods": ["GET"]}, {"uri": "/a"}])
        one, other = router.candidates("/a", "")
        assert [router.allows(one, "GET"), router.allows(one, "PUT"), router.allows(other, "PUT")] == [
            True,
            False,
            True,
        ]

    def test_switched_off_is_not_in_the_index(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a", "status": 0}, {"uri": "/a*"}])
        assert (len(router), router.remove("0"), ids(router, [("/a",)])) == (1, False, ["1"])

    def test_switching_off_takes_the_old_one_out(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a"}, {"uri": "/b", "id": "0", "status": 0}])
        assert (len(router), ids(router, [("/a",), ("/b",)])) == (0, [None, None])

    def test_insert_replaces(self, mode: str) -> None:
        router = build(mode, [{"uri": ["/a", "/b*"], "hosts": ["x.com"]}, {"uri": "/c", "id": "0"}])
        assert ids(router, [("/a", "x.com"), ("/b", "x.com"), ("/c", "y.com")]) == [None, None, "0"]
        assert len(router) == 1

    def test_remove_says_whether_there_was_one(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a"}])
        assert [router.remove("0"), router.remove("0"), router.remove("never")] == [True, False, False]
        router.check()

    def test_repeated_uris_and_hosts_count_once(self, mode: str) -> None:
        router = build(mode, [{"uri": ["/a", "/a"], "hosts": ["x.com", "X.com", "x.com."]}])
        assert [match.id for match in router.candidates("/a", "x.com")] == ["0"]
        router.remove("0")
        router.check()

    def test_hosts(self, mode: str) -> None:
        router = build(mode, [{"uri": "/*", "hosts": ["Foo.com", "*.Bar.com", "*baz.com", "[::1]"]}])
        fitting = ["foo.com", "a.bar.com", "a.b.bar.com", ".bar.com", "baz.com", "xbaz.com", "[::1]"]
        others = ["a.foo.com", "bar.com", "xbar.com", "bar.com.evil", "", "az.com", "[::2]"]
        assert ids(router, [("/", host) for host in fitting]) == ["0"] * len(fitting)
        assert ids(router, [("/", host) for host in others]) == [None] * len(others)

    def test_a_host_with_a_port_is_never_asked_for(self, mode: str) -> None:
        assert ids(build(mode, [{"uri": "/*", "hosts": ["foo.com:9080"]}]), [("/", "foo.com")]) == [None]

    def test_no_host_is_told_apart_by_number(self, mode: str) -> None:
        """CVE-2026-27588 (Caddy): above 100 hosts matching became case-sensitive."""
        for count in (1, 99, 101, 2000):
            routes = [{"uri": "/*", "hosts": [f"H{number}.Example.com"], "id": f"{number}"} for number in range(count)]
            router = build(mode, routes)
            assert ids(router, [("/", f"h{number}.example.com") for number in range(count)]) == list(
                map(str, range(count))
            )

    def test_many_routes_on_one_path(self, mode: str) -> None:
        routes = [{"uri": "/a*", "id": f"{number:03d}", "priority": number % 7} for number in range(200)]
        router = build(mode, routes)
        found = [match.id for match in router.candidates("/ab", "")]
        assert found == sorted((f"{number:03d}" for number in range(200)), key=lambda id: (-(int(id) % 7), id))
        for number in range(0, 200, 2):
            router.remove(f"{number:03d}")
            router.check()
        assert [match.id for match in router.candidates("/ab", "")] == [id for id in found if int(id) % 2]


class TestHostUri:
    ROUTES = (
        {"id": "none", "uri": ["/*", "/long/path"], "priority": 9},
        {"id": "short", "uri": "/*", "hosts": ["*.com"], "priority": 5},
        {"id": "wild", "uri": ["/a*", "/long/path"], "hosts": ["*.foo.com"]},
        {"id": "exact", "uri": "/a*", "hosts": ["a.foo.com"], "methods": ["GET"]},
    )

    @pytest.mark.parametrize(
        ("path", "host", "method", "id"),
        [
            ("/ab", "a.foo.com", "GET", "exact"),
            ("/ab", "a.foo.com", "PUT", "wild"),  # not the exact host's: its routes are exhausted
            ("/ab", "b.foo.com", "GET", "wild"),
            ("/b", "a.foo.com", "GET", "short"),
            ("/long/path", "b.foo.com", "GET", "wild"),
            ("/long/path", "b.com", "GET", "short"),  # a host's prefix before the exact path of no host
            ("/long/path", "b.net", "GET", "none"),
            ("/ab", "foo.com", "GET", "short"),
            ("/ab", "", "GET", "none"),
        ],
    )
    def test_host_leads(self, path: str, host: str, method: str, id: str) -> None:
        assert ids(build(HOST_URI, list(self.ROUTES)), [(path, host, method)]) == [id]

    def test_one_host_is_not_the_prefix_of_another(self) -> None:
        router = build(HOST_URI, [{"uri": "*", "hosts": ["foo.com"]}])
        assert ids(router, [("/", "foo.com.evil"), ("/", "foo.com")]) == [None, "0"]

    def test_a_wildcard_goes_with_its_last_route(self) -> None:
        router = build(HOST_URI, [{"uri": f"/{number}", "hosts": ["*.foo.com"]} for number in range(2)])
        for id in ("0", "1"):
            router.remove(id)
            router.check()


@pytest.mark.parametrize("mode", [URI, PARAMETER])
class TestUri:
    def test_a_host_only_filters(self, mode: str) -> None:
        """An exact host is not better than a wildcard, nor that than none: priority and id decide."""
        routes = [
            {"id": "1", "uri": "/a"},
            {"id": "2", "uri": "/a", "hosts": ["*.foo.com"]},
            {"id": "3", "uri": "/a", "hosts": ["a.foo.com"], "priority": 1},
            {"id": "4", "uri": "/a", "hosts": ["*.com", "a.foo.com"]},
        ]
        router = build(mode, routes)
        assert [match.id for match in router.candidates("/a", "a.foo.com")] == ["3", "1", "2", "4"]
        assert [match.id for match in router.candidates("/a", "b.com")] == ["1", "4"]

    def test_a_longer_path_before_a_nearer_host(self, mode: str) -> None:
        router = build(mode, [{"uri": "/a*", "hosts": ["foo.com"]}, {"uri": "/a/b*"}])
        assert ids(router, [("/a/b", "foo.com")]) == ["1"]

    def test_a_crowd_of_hosts_is_merged_in_order(self, mode: str) -> None:
        routes = [
            {"id": f"{number:03d}", "uri": "/a", "hosts": hosts, "priority": number % 3}
            for number, hosts in enumerate([[], ["a.foo.com"], ["*.foo.com", "a.foo.com"], ["*.com"]] * 40)
        ]
        found = [match.id for match in build(mode, routes).candidates("/a", "a.foo.com")]
        assert found == sorted((route["id"] for route in routes), key=lambda id: (-(int(id) % 3), id))


@pytest.mark.parametrize("mode", [HOST_URI, URI])
def test_a_colon_is_a_character_without_parameters(mode: str) -> None:
    router = build(mode, [{"uri": "/user/:name"}, {"uri": "/a/:b/*"}])
    assert ids(router, [("/user/:name",), ("/user/x",), ("/a/:b/c",), ("/a/x/c",)]) == ["0", None, "1", None]


@pytest.mark.parametrize(
    ("uri", "path", "params"),
    [
        ("/user/:name", "/user/json", {"name": "json"}),
        ("/user/:name", "/user/", None),
        ("/user/:name", "/user/a/b", None),
        ("/user/:name", "/user/a\nb", {"name": "a\nb"}),
        ("/user/:name/", "/user/a/", {"name": "a"}),
        ("/user/:name/", "/user/a", None),
        ("/:a/x/:b", "/1/x/2", {"a": "1", "b": "2"}),
        ("/:a/x/:a", "/1/x/2", {"a": "2"}),
        ("/:a/*rest", "/1/2/3", {"a": "1", "rest": "2/3"}),
        ("/:a/*rest", "/1/", {"a": "1", "rest": ""}),
        ("/:a/*rest", "/1", None),
        ("/:a/*", "/1/2", {"a": "1", ":ext": "2"}),
        ("/x/*", "/x/a/b", {":ext": "a/b"}),
        ("/x*", "/xa/b", None),
        ("/x/:a/nodes/?", "/x/1/nodes", {"a": "1"}),
        ("/x/:a/nodes/?", "/x/1/nodes/", {"a": "1"}),
        ("/x/:a/nodes/?", "/x/1/nodes/2", None),
        ("/x/:a.b", "/x/1", {"a.b": "1"}),
        ("/x/:a/v1.0", "/x/1/v1x0", None),
        ("/*a/:b/*c/d", "/1/2/3/4/d", {"a": "1", "b": "2", "c": "3/4"}),
        ("/:a/x*", "/1/xyz", {"a": "1"}),
    ],
)
def test_parameters(uri: str, path: str, params: dict[str, str] | None) -> None:
    match = build(PARAMETER, [{"uri": uri}]).match(path, "any.com", "GET")
    assert (match and match.params) == params


def test_parameters_are_ordered_by_head_then_priority_then_length() -> None:
    routes = [
        {"id": "tail", "uri": "/api/:v/test/*rest"},
        {"id": "long", "uri": "/api/:v/test/:id/nodes"},
        {"id": "first", "uri": "/api/*", "priority": 1},
        {"id": "head", "uri": "/api/v4/:x/*rest"},
        {"id": "exact", "uri": "/api/v4/test/1/nodes", "methods": ["PUT"]},
    ]
    found = [match.id for match in build(PARAMETER, routes).candidates("/api/v4/test/1/nodes", "")]
    assert found == ["exact", "head", "first", "long", "tail"]


def test_many_patterns_on_one_head() -> None:
    routes = [{"uri": f"/:tenant/service{number}/:id"} for number in range(500)]
    router = build(PARAMETER, routes)
    match = router.match("/me/service321/7", "", "GET")
    assert match is not None
    assert (match.id, match.params) == ("321", {"tenant": "me", "id": "7"})


def test_globs_do_not_backtrack() -> None:
    """A path made to mislead costs time in proportion to its length, or this does not end."""
    router = build(PARAMETER, [{"uri": "/*a/*a/*a/*a/*a/*a/*a/*a/:x/end"}])
    assert router.match("/a" * 4000, "", "GET") is None


def test_no_such_mode() -> None:
    with pytest.raises(ValueError, match="radixtree_host_uri"):
        build_router("radixtree")
