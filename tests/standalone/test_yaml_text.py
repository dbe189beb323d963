"""Strict YAML: what is read as what, and what is refused with its place and without its values."""

from typing import Any

import pytest
import yaml

from sync_agent.stores.standalone.yaml_text import parse_yaml

LIMIT_BYTES = 10_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# a comment\n#END\n", None),
        ("{}", {}),
        ("a: [1, -2, 0x1F, 1_000, 1.5, 1e3, .5]", {"a": [1, -2, 31, 1000, 1.5, "1e3", 0.5]}),
        ("a: [true, no, On, null, ~, '']", {"a": [True, False, True, None, None, ""]}),
        ("a: ['1', \"true\", !!str 5, !!int '7', ! 8]", {"a": ["1", "true", "5", 7, "8"]}),
        ("a: [2024-01-01, 2024-99-99, =, 10:20]", {"a": ["2024-01-01", "2024-99-99", "=", 620]}),
        ("1980: a\ntrue: b\n~: c", {"1980": "a", "true": "b", "~": "c"}),
        ("a: &x {b: [1]}\nc: *x", {"a": {"b": [1]}, "c": {"b": [1]}}),
        ("&k a: *k", {"a": "a"}),
        ("d: &d {b: 1, c: 2}\ne: {<<: *d, c: 3}", {"d": {"b": 1, "c": 2}, "e": {"b": 1, "c": 3}}),
        ("e: {<<: [{a: 1}, {a: 2, b: 3}], c: 4}", {"e": {"a": 1, "b": 3, "c": 4}}),
        ("a: |\n  one\n  two\nb: >\n  one\n  two\n", {"a": "one\ntwo\n", "b": "one two\n"}),
        ("\ufeffa: ü😀", {"a": "ü😀"}),
        ("--- {a: 1}\n...\n", {"a": 1}),
    ],
)
def test_what_is_read(text: str, value: Any) -> None:
    assert parse_yaml(text.encode(), LIMIT_BYTES) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "line 2, column 11: key 'c' is written twice"),
        ("a: 1\n? [x]\n: 1", "line 2, column 3: a key must be text or a number"),
        ("a: !!python/object/apply:os.system [secret]", "the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !mine secret", "the tag '!mine' has no meaning here"),
        ("a: !!int secret", "is not a int"),
        ("a: !!binary c2VjcmV0", "has no meaning here"),
        ("a: *nobody", "line 1, column 4: an alias of what is not there"),
        ("a: &a [*a]", "an alias of what is not there, or of what it stands in"),
        ("a: {<<: secret}", "<< takes a mapping"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins here"),
        ("a: [secret", "line 2, column 1"),
        ("a: 1\nb: {<<: [secret]}", "line 2, column 9: << takes a mapping"),
        ("a: 'secret", "line 1"),
        ("a: b: secret", "line 1, column 5"),
        ("\tx: secret", "line 1, column 1"),
        ("a: secret\0", "is not valid YAML"),
        ("[" * 131 + "]" * 131, "nested more than 130 levels deep"),
        ("a: " + "9" * 5000, "one that is too long"),
    ],
)
def test_what_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_yaml(text.encode(), LIMIT_BYTES)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is not UTF-8 \(byte 3\)"):
        parse_yaml(b"a: \xff", LIMIT_BYTES)


def test_aliases_may_not_come_to_more_than_the_limit() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for name, before in zip("bcdefghij", "abcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    with pytest.raises(ValueError, match=r"line \d+, column \d+: aliases come to more than 10000 bytes"):
        parse_yaml("\n".join(lines).encode(), LIMIT_BYTES)


def test_it_agrees_with_pyyaml_on_what_both_read() -> None:
    document = {
        "routes": [
            {"id": str(number), "uri": f"/{number}", "methods": ["GET"], "labels": {"no": "yes", "1": "~"}}
            for number in range(50)
        ],
        "upstreams": [{"id": 1, "nodes": {"127.0.0.1:80": 1}, "timeout": {"connect": 1.5}, "desc": "a: b # c\n"}],
    }
    text = yaml.safe_dump(document)
    assert parse_yaml(text.encode(), LIMIT_BYTES) == yaml.safe_load(text) == document
