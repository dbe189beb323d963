"""What `~~` and `~*` find, and that no text makes them look for long."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gw.expr import ExpressionError, SearchTooLong
from gw.expr.search import compile_search
from gw.schema.expressions import expression_complaint


@pytest.mark.parametrize(
    ("pattern", "subject", "found"),
    [
        ("b+", "abbc", True),
        ("B+", "abbc", False),
        (r"(?<year>\d+)", "in 2024", True),
        (r"(?P<year>\d+)", "in", False),
        (r"\d+\z", "1\n", False),
        (r"\d+\Z", "1\n", True),
        (r"\d+$", "1\n", True),
        (r"\d+$", "1\n2x", False),
        (r"^$", "\n", True),
        (r"[$]", "a$", True),
        (r"\$", "a$", True),
        (r"(?m)^b$", "a\nb\nc", True),
        (r"(?x) a b ", "ab", True),
        (r"a\hb", "a\tb", True),
        (r"[\h]b", "\tb", True),
        (r"a\Rb", "a\r\nb", True),
        (r"a\sb", "a\vb", True),
        (r"a\Sb", "a\vb", False),
        (r"a[\s]b", "a\vb", True),
        ("[[:alpha:]_]{3}", "12ab_3", True),
        ("[^[:digit:]]", "123", False),
        ("[]a]", "]", True),
        ("[^]a]", "]a", False),
        ("[a[]", "[", True),
        (r"[\]a]", "]", True),
        (r"\w", "é", False),
        ("é", "café", True),
        ("^caf.{2}$", "café", True),
        ("^a.b$", "a\udcffb", True),
        ("a++b", "aab", True),
        ("(?>a+)b", "aab", True),
        ("(?=.*b)(?!.*c)a", "xab", True),
        ("^(?=.*b)(?!.*c)", "acb", False),
        (r"(a|b)\1", "abb", True),
        (r"(?<=in )\d", "in 2", True),
        ("(?i)B", "b", True),
        ("a{1001}", "a" * 1001, True),
        (r"x\z(?=)", "x\n", False),
        (r"x\Z(?=)", "x\n", True),
        (r"(?<!/)\/api\-v1\_x", "/api-v1_x", True),
        ("^a{1,2}{e}$", "a{e}", True),
        ("^(?=a)a{1,2}(?:b){e}$", "aab{e}", True),
        ("^(?=a)a{1,2}(?:b){e}$", "aac", False),
        ("^.{3}x", "\ud800x", True),
    ],
)
def test_what_is_found(pattern: str, subject: str, found: bool):
    assert compile_search(pattern, ignores_case=False)(subject) is found


@pytest.mark.parametrize(
    ("pattern", "subject", "found"),
    [("B", "abc", True), ("É", "é", True), ("É", "ã", False), ("(?=A)a", "A", True), ("z", "abc", False)],
)
def test_in_either_case(pattern: str, subject: str, found: bool):
    assert compile_search(pattern, ignores_case=True)(subject) is found


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", r"\Qa.b\E", r"\p{L}", r"\Ka", "[[:never:]]", "*a", "[z-a]", "(?=("])
def test_what_is_none_is_refused(pattern: str):
    with pytest.raises(ExpressionError):
        compile_search(pattern, ignores_case=False)


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|aa)+$", "(.*)(.*)(.*)(.*)(.*)[^a]$", "(a*)*b", "(a?){60}a{60}$"])
def test_what_would_explode_is_linear(pattern: str):
    """GHSA-9wv6-86v2-598j and its like: with a backtracking engine none of these would ever end."""
    assert isinstance(compile_search(pattern, ignores_case=False)("a" * 30_000 + "!"), bool)


@pytest.mark.parametrize("pattern", [r"(?=x)?(a+)+$", r"^(?=(a|aa)+$)", r"(a+)+\1$"])
def test_what_has_to_backtrack_gives_up(pattern: str):
    search = compile_search(pattern, ignores_case=False)
    assert search("aab!") in (True, False)
    began_s = time.process_time()
    with pytest.raises(SearchTooLong, match="30001 bytes"):
        search("a" * 30_000 + "!")
    assert time.process_time() - began_s < 5, "it never ended"


@pytest.mark.parametrize(
    ("expression", "reason", "place"),
    [
        ([], None, ()),
        ([["arg_x", "==", "1"]], None, ()),
        ([["my_own", "==", "1"], ["OR", ["a", "~~", "^x"], ["b", "ipmatch", ["10.0.0.0/8", "::1"]]]], None, ()),
        ([["arg_x", "~~", "("]], "is no regular expression here", (0,)),
        ([["arg_x", "=", "1"]], "invalid operator '='", (0,)),
        ([["arg_x", "ipmatch", ["10.0.0.0/33"]]], "invalid ip address", (0,)),
        ([["OR", ["a", "1"], ["b"]]], "invalid expression", (0, 2)),
        (["k", "==", "v"], "rule should be wrapped inside brackets", ()),
        ("k", "an expression is a list of rules", ()),
        ({"k": "v"}, "an expression is a list of rules", ()),
    ],
)
def test_the_check_of_those_who_store_it(expression: Any, reason: str | None, place: tuple[int, ...]):
    found = expression_complaint(("vars",), expression)
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found.reason
        assert found.place == ("vars", *place)
