"""Regular expressions in PCRE's spelling."""

import re

import pytest

from gw.expr.errors import ExpressionError
from gw.expr.pattern import compile_bytes_pattern, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "options", "subject", "found"),
    [
        ("b+", "jo", "abbc", "bb"),
        ("B+", "joi", "abbc", "bb"),
        ("^b", "jom", "a\nb", "b"),
        ("a.b", "s", "a\nb", "a\nb"),
        ("a b # c", "x", "ab", "ab"),
        ("b", "a", "ab", None),
        ("a # c", "ax", "ab", "a"),
        (r"(?<year>\d+)-\k<year>", "jo", "", ValueError),
        (r"(?<year>\d+)", "jo", "in 2024", "2024"),
        (r"(?<=in )\d+", "jo", "in 2024", "2024"),
        (r"(?<!in )\d+", "jo", "2024", "2024"),
        (r"\d+\z", "jo", "1\n", None),
        (r"\d+\Z", "jo", "1\n", "1"),
        (r"\d+$", "jo", "1\n", "1"),
        (r"a\hb", "jo", "a\tb", "a\tb"),
        (r"[\h]+", "jo", "a \tb", " \t"),
        (r"a\Rb", "jo", "a\r\nb", "a\r\nb"),
        ("[[:alpha:]_]+", "jo", "12ab_3", "ab_"),
        ("[^[:digit:]]+", "jo", "12ab3", "ab"),
        ("[]a]+", "jo", "x]a", "]a"),
        ("[^]a]+", "jo", "]xy]", "xy"),
        ("[a[]+", "jo", "x[a", "[a"),
        (r"[\]a]+", "jo", "x]a", "]a"),
        ("a++b", "jo", "aab", "aab"),
        ("(?>a+)b", "jo", "aab", "aab"),
        (r"\w+", "jo", "é1", "1"),
        (r"\w+", "jou", "é1", "é1"),
        ("a--b", "jo", "a--b", "a--b"),
        ("[a||b]+", "jo", "|a", "|a"),
        ("(", "jo", "", ValueError),
        (r"a\Kb", "jo", "", ValueError),
        (r"\Qa.b\E", "jo", "", ValueError),
        (r"\p{L}", "jo", "", ValueError),
        ("[[:^alpha:]]", "jo", "", ValueError),
        ("[[:never:]]", "jo", "", ValueError),
        ("a", "d", "", ValueError),
    ],
)
def test_what_is_found(pattern: str, options: str, subject: str, found: object):
    if found is ValueError:
        with pytest.raises(ExpressionError):
            compile_pattern(pattern, options)
        return
    match = compile_pattern(pattern, options).search(subject)
    assert (match and match[0]) == found


def test_bytes_are_seen_one_by_one():
    assert len(re.findall(compile_bytes_pattern("."), "é".encode())) == 2
    match = compile_bytes_pattern("é+").search("aéb".encode())
    assert match is not None
