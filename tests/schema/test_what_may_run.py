"""Conditions and code, as the Admin API asks of them; and .proto files."""

import base64
from typing import Any

import pytest

from gw.errors import InvalidResource
from gw.schema import PluginSchemas, validate
from gw.schema.load import load_plugin_meta
from gw.schema.plugin_schemas import PluginSchema

MARKER = PluginSchema({"type": "object", "properties": {"_meta": load_plugin_meta()}}, "here")
PLUGINS = PluginSchemas({"marker": MARKER, "other": MARKER})
ROUTE = {"uri": "/a", "plugins": {}}
VARS = "failed to validate the 'vars' expression: "
OFF = "is code, which runs only where the setting gw.allow_code is on; here it is off"
FUNCTION = "def f(vars):\n    return vars['arg_a'] == 'b'\n"


def refusal(resource: dict[str, Any], kind: str = "routes", **strictness: bool) -> InvalidResource | None:
    try:
        validate(kind, "1", resource, PLUGINS, **strictness)
    except InvalidResource as error:
        return error
    return None


GOOD_VARS: list[Any] = [
    [],
    [["arg_name", "==", "json"], ["arg_weight", ">", 10]],
    ["OR", ["arg_a", "==", "1"], ["AND", ["arg_b", "~~", "^[a-z]+$"], ["http_x", "in", ["a", "b"]]]],
    [["remote_addr", "ipmatch", ["10.0.0.0/8", "::1"]], ["arg_x", "!", "has", "a"]],
    [["nobody_knows_this_variable", "==", 1]],
]
BAD_VARS: list[tuple[Any, str, str]] = [
    ([["remote_addr", "=", "127.0.0.1"]], "vars[0]", "invalid operator '='"),
    (["remote_addr", "==", "127.0.0.1"], "vars", "rule should be wrapped inside brackets"),
    ([["OR", ["a", "==", 1]]], "vars[0]", "rule too short"),
    ([["a", "==", 1], ["OR", ["a", "==", 1], ["a", "x", 1]]], "vars[1][2]", "invalid operator 'x'"),
    ([["a", "~~", "(["]], "vars[0]", ""),
    ([["a", "ipmatch", ["10.0.0.0/33"]]], "vars[0]", "invalid ip address: "),
    ([["a", "ipmatch", ["::1", "::ffff:10.0.0.0/95"]]], "vars[0]", "invalid ip address: "),
    ([["a", "ipmatch", ["10.0.0.0/255.0.0.0"]]], "vars[0]", "invalid ip address: "),
    ([["a", "ipmatch", ["fe80::1%eth0"]]], "vars[0]", "invalid ip address: "),
    ([["a", "ipmatch", []]], "vars[0]", "invalid ip address: "),
    ([["a", "ipmatch", None]], "vars[0]", "invalid ip address: "),
    ([{}], "vars", ""),
    ([[]], "vars[0]", "rule too short"),
]


@pytest.mark.parametrize("vars", GOOD_VARS)
def test_conditions(vars: Any) -> None:
    assert refusal(ROUTE | {"vars": vars}, refuse_unknown=True) is None
    assert refusal(ROUTE | {"plugins": {"marker": {"_meta": {"filter": vars}}}}, refuse_unknown=True) is None


@pytest.mark.parametrize(("vars", "path", "reason"), BAD_VARS)
def test_what_is_no_condition(vars: Any, path: str, reason: str) -> None:
    refused = refusal(ROUTE | {"vars": vars}, refuse_unknown=True)
    assert refused is not None
    assert refused.path == path
    assert refused.reason.startswith(VARS + reason)
    assert refused.stands_alone
    one = {"marker": {"_meta": {"filter": vars}}}
    filtered = refusal(ROUTE | {"plugins": one}, refuse_unknown=True)
    assert filtered is not None
    assert filtered.path == f"plugins.marker._meta.filter{path.removeprefix('vars')}"
    assert filtered.reason == refused.reason
    assert filtered.stands_alone
    of_two = refusal(ROUTE | {"plugins": one | {"other": {}}}, refuse_unknown=True)
    assert of_two is not None
    assert of_two.reason == f"{refused.reason} (plugin marker)"


@pytest.mark.parametrize("vars", [vars for vars, _, _ in BAD_VARS])
def test_what_is_in_the_store_is_published_and_answered_500(vars: Any) -> None:
    """A route that vanished could hand its requests to another one, which asks less of them."""
    assert refusal(ROUTE | {"vars": vars}) is None


IN_PLUGIN = {"plugins": {"marker": {"_meta": {"pre_function": FUNCTION}}}}
CODE: list[tuple[str, dict[str, Any], str]] = [
    ("routes", {"uri": "/a", "plugins": {}, "filter_func": FUNCTION}, "filter_func"),
    ("routes", {"uri": "/a", "script": FUNCTION}, "script"),
    ("services", {"script": FUNCTION}, "script"),
    ("routes", {"uri": "/a"} | IN_PLUGIN, "plugins.marker._meta.pre_function"),
    ("global_rules", IN_PLUGIN, "plugins.marker._meta.pre_function"),
]


@pytest.mark.parametrize(("kind", "resource", "path"), CODE)
def test_code_is_refused_where_it_does_not_run(kind: str, resource: dict[str, Any], path: str) -> None:
    refused = refusal(resource, kind, refuse_unknown=True, allow_code=False)
    assert refused is not None
    assert (refused.path, refused.reason) == (path, f"{path} {OFF}")
    assert refusal(resource, kind, refuse_unknown=True, allow_code=True) is None
    assert refusal(resource, kind) is None, "what is in the store is published"


@pytest.mark.parametrize(
    "source",
    [
        "function(vars) return true end",
        "def f(vars) return",
        "(" * 10_000,
        "lambda: " * 5_000,
        "x = '\0" + "y" * 20,
        "-" * 100_000 + "1",
        "x = 1\n" * 20_000,
    ],
)
def test_what_is_no_python_is_refused_where_code_runs(source: str) -> None:
    refused = refusal(ROUTE | {"filter_func": source}, refuse_unknown=True, allow_code=True)
    assert refused is not None
    assert refused.reason.startswith("failed to load 'filter_func' string: it is ")
    assert len(refused.reason) < 200


def file_set(*names: bytes) -> str:
    files = b"".join(b"\x0a" + bytes([len(name) + 2]) + b"\x0a" + bytes([len(name)]) + name for name in names)
    return base64.b64encode(files).decode()


PROTO = """
syntax = "proto3"; // a comment with {
package helloworld;
/* and another ( */
service Greeter { rpc SayHello (HelloRequest) returns (HelloReply) {} }
message HelloRequest { string name = 1 [deprecated = true]; } option (my.x) = 'it\\'s {';
"""


# Numbers that are there twice, and are no two fields of one message.
NUMBERS = """message A {
  int32 a = 1; .x.B b = 2 [(o) = {n: [3, 3]; s: "}"}]; reserved 3, 4; option (o) = 1; option c = 1;
  message B { int32 a = 1; enum E { option allow_alias = true; X = 1; Y = 1; } oneof o { int32 b = 2; } }
  repeated group C = 5 { optional int32 a = 1; } map<string, B> d = 6; extensions 100 to 199;
} extend A { optional int32 e = 100; } enum F { Z = 1; } service S { option a = 1; option b = 1; }
"""


@pytest.mark.parametrize(
    "content", [PROTO, NUMBERS, "message A {}", 'syntax="proto2";', file_set(b"a.proto"), file_set(b"a", b"b") + "\n"]
)
def test_proto_files(content: str) -> None:
    assert refusal({"content": content}, "protos") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("message A {", "{ is not closed (line 1)"),
        ("message A {}\n}", "} closes nothing (line 2)"),
        ("message A { string x = 1 ];", "] closes nothing (line 1)"),
        ('syntax = "proto3;\n', "a string or comment does not end (line 1)"),
        ("/* message A {}", "a string or comment does not end (line 1)"),
        ("hello, world", "nothing is declared in it"),
        ("message A { int32 a = 1;\nint32 b = 1; }", "field number 1 is there twice (line 2)"),
        ("message A { int32 a = 1; oneof b { int32 c = 0x1 [x = 1]; } }", "field number 1 is there twice (line 1)"),
        ("message A { message B { repeated B a = 2; map<B, B> b = 2; } }", "field number 2 is there twice (line 1)"),
        ("message A { int32 a = 5; optional group B = 5 { } }", "field number 5 is there twice (line 1)"),
        ("AAAA", "it is base64, but of no FileDescriptorSet (protoc --descriptor_set_out)"),
        (file_set(b"a.proto")[:-4], "it is base64, but of no FileDescriptorSet (protoc --descriptor_set_out)"),
        ("/" * 100_000, "it is base64, but of no FileDescriptorSet (protoc --descriptor_set_out)"),
        ("(" * 100_000, "( is not closed (line 1)"),
        # Long ones that an expression which looks again and again would not come back from.
        ("/* " * 300_000, "a string or comment does not end (line 1)"),
        ('"\\' * 400_000, "a string or comment does not end (line 1)"),
        ("message A {}\n" + "'" * 99_999, "a string or comment does not end (line 2)"),
        ("{" + "\\" * 500_000, "{ is not closed (line 1)"),
    ],
)
def test_what_is_no_proto_file(content: str, reason: str) -> None:
    refused = refusal({"content": content}, "protos")
    assert refused is not None
    assert refused.reason == f"invalid content: {reason}"
