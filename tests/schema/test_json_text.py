"""Bytes that are not one JSON value beyond doubt, and what is said of them."""

from typing import Any

import pytest

from gw.schema import parse_json


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": [1, 2.5, true, null, "x"]}', {"a": [1, 2.5, True, None, "x"]}),
        (b" 7 ", 7),
        (b'"\xc3\xa9 \\ud83d\\ude00"', "é \U0001f600"),
        (b'{"a": {"b": 1}, "b": 2}', {"a": {"b": 1}, "b": 2}),
        (b"[" * 128 + b"]" * 128, None),
        (b'"' + b"[" * 1000 + b'"', "[" * 1000),
    ],
)
def test_accepted(raw: bytes, value: Any):
    parsed = parse_json(raw)
    assert value is None or parsed == value


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "invalid JSON: expecting value at line 1 column 1"),
        (b"init_dir", "invalid JSON: expecting value at line 1 column 1"),
        (b'{"a": 1,\n "b": }', "invalid JSON: expecting value at line 2 column 7"),
        (b'{"a": 1} x', "invalid JSON: extra data at line 1 column 10"),
        (b'{"a": "\n"}', "invalid JSON: invalid control character at at line 1 column 8"),
        (b'{"a": "\xff"}', "invalid JSON: not UTF-8 at byte 7"),
        (b'"\xed\xa0\x80"', "invalid JSON: not UTF-8 at byte 1"),
        (b'\xef\xbb\xbf{"a": 1}', "invalid JSON: begins with a byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "invalid JSON: not UTF-8 at byte 0"),
        (b'{"a": NaN}', "invalid JSON: NaN is no number that JSON knows, or too large for one at a"),
        (b"-Infinity", "invalid JSON: -Infinity is no number that JSON knows, or too large for one at the top"),
        (b'{"a": [0, 1e999]}', "invalid JSON: 1e999 is no number that JSON knows, or too large for one at a[1]"),
        (b'{"a": 1, "a": 1}', 'invalid JSON: duplicate name "a" at the top'),
        (b'{"u": [{}, {"x\\n": 1, "y": 2, "x\\n": 3}]}', 'invalid JSON: duplicate name "x\\n" at u[1]'),
        (b'{"a": "\\ud800"}', "invalid JSON: string holds half of a surrogate pair, which UTF-8 cannot carry at a"),
        (b"[" * 129 + b"]" * 129, "invalid JSON: nested too deeply: more than 128 levels at " + "[0]" * 128),
        (b"[" * 1_000_000, "invalid JSON: nested too deeply: more than 128 levels"),
        (b'{"a":' * 1_000_000, "invalid JSON: nested too deeply: more than 128 levels"),
        (b"[" + b"9" * 5000 + b"]", "invalid JSON: exceeds the limit (4300 digits) for integer string conversion"),
    ],
)
def test_refused_with_reason_and_place(raw: bytes, text: str):
    with pytest.raises(ValueError) as caught:
        parse_json(raw)
    assert str(caught.value).startswith(text)
    assert caught.value.__cause__ is None


def test_duplicates_may_be_allowed_and_nothing_else():
    assert parse_json(b'{"a": 1, "a": 2}', allow_duplicate_names=True) == {"a": 2}
    with pytest.raises(ValueError, match="NaN"):
        parse_json(b'{"a": NaN}', allow_duplicate_names=True)


def test_no_more_than_a_name_of_the_text_is_quoted():
    with pytest.raises(ValueError) as caught:
        parse_json(b'{"key": "topsecret", "key": "topsecret", ]')
    assert "topsecret" not in str(caught.value)
