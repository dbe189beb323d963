"""Regular expressions in PCRE's spelling."""

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.expr.effort import NO_LIMIT
from gw.expr.errors import ExpressionError, SearchTooLong
from gw.expr.pattern import _source, compile_bytes_pattern, compile_pattern
from gw.expr.search import compile_search


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
        ("a(?i)b", "jo", "", ValueError),
        ("(?i)B", "jo", "ab", "b"),
        ("(?:b){e}", "jo", "b{e}", "b{e}"),
        ("(?:b){i<=1}", "jo", "b{i<=1}", "b{i<=1}"),
        ("b{2}{,1}", "jo", "bbb", ValueError),
        ("[{]b{1,}", "jo", "{bb", "{bb"),
        (r"\{b\}", "jo", "{b}", "{b}"),
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
    assert compile_bytes_pattern(".").sub(lambda _: b"x", "é".encode(), 0) == b"xx"
    match = compile_bytes_pattern("é+").search("aéb".encode())
    assert match is not None


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|aa)+$", "(?=(a+)+$)", r"(.*)(.*)(.*)(.*)(.*)\1[^a]$"])
def test_what_explodes_gives_up(pattern: str):
    """Without a bound none of these would ever end."""
    with pytest.raises(SearchTooLong, match="30001 characters"):
        compile_pattern(pattern).search("a" * 30_000 + "!")
    with pytest.raises(SearchTooLong, match="30001 characters"):
        compile_bytes_pattern(pattern).sub(lambda _: b"", b"a" * 30_000 + b"!", 0)


@pytest.mark.parametrize(
    ("pattern", "count", "replaced"), [("b*", 0, "xaxxcx"), ("b", 1, "axbc"), ("(b)(z)?", 0, "axxc"), ("q", 0, "abbc")]
)
def test_what_is_replaced(pattern: str, count: int, replaced: str):
    assert compile_pattern(pattern).sub(lambda match: "x" + (match[0] and ""), "abbc", count) == replaced


PIECES = st.sampled_from([*"abeis.*+?|()[]^$,-1&~", "{", "}", "\\d", "\\b", "(?:", "(?=", "{1,2}", "[^", "\\1", "<=1"])


@given(st.lists(PIECES, max_size=8).map("".join), st.text("abe1{}s", max_size=6))
def test_what_re_takes_is_read_alike(pattern: str, subject: str):
    """`re` says what is an expression and the `regex` module finds it: they must mean the same by it."""
    try:
        compiled = compile_pattern(pattern)
    except ExpressionError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = re.search(_source(pattern, "jo"), subject, re.ASCII)
    for search in (compiled.search, compiled._bounded.search):
        found = search(subject)
        assert (found and (found.span(), found.groups())) == (expected and (expected.span(), expected.groups()))


@pytest.mark.parametrize(
    ("pattern", "is_fine"),
    [
        ("(?:(?:a{1000}){1000}){1000}", False),
        ("(?x)(?:(?:a{1000}) {1000}) {1000}", False),
        ("((a|b){400}){400,}", False),
        ("[a-z]{1000000}", False),
        ("a{" + "9" * 5000 + "}", False),
        ("(" * 400 + "a" + "){2}" * 400, False),
        ("(?:[a-z]{0,63}[.]){1,126}", True),
        ("(?:(?:a{0,1000}){0,1000}){000}", True),
        ("[({5000}]{20}[a{9}]|\\(a{300}", True),
        ("(abc){1000}", True),
    ],
)
def test_what_is_written_out_is_bounded(pattern: str, is_fine: bool):
    for compiling in (compile_pattern, lambda text: compile_search(f"(?=x){text}", ignores_case=False)):
        if is_fine:
            compiling(pattern)
        else:
            with pytest.raises(ExpressionError, match="too large"):
                compiling(pattern)


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        ("abc", NO_LIMIT),
        (r"inner\.example[a-z(+)]", NO_LIMIT),
        ("^/a/(.*)$", NO_LIMIT),
        ("^/a/(.*)/(.*)", 999),
        ("/a/(.*)", 999),
        ("a|b", 999),
        ("^a{3}", NO_LIMIT),
        ("^(abc)+(?:x)?", 98),
        ("(a+)+", 0),
        ("(a|aa)*", 0),
        ("((ab?))+", 0),
        ("(?:a?){60}a{60}", 0),
        ("(?:(?:a+)b){2,}", 0),
        ("(a+)?", 98),
        ("(?#a ( b)c", 0),
        ("(?x) a+ b+ # )", 0),
        ("(?m)^a+b+", 0),
    ],
)
def test_how_long_a_text_may_be(pattern: str, length: int):
    assert compile_pattern(pattern)._harmless == pytest.approx(length, abs=1)
