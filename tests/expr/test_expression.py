"""Expressions as APISIX has them; facts from lua-resty-expr's t/v1/*.t and t/validate.t."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import pytest

from gw.expr import ExpressionError, compile_expression

FACTS = {"k", "x", "age", "name", "ip", "empty"}


def networks(written: Sequence[str]) -> Any:
    blocks = [ipaddress.ip_network(text, strict=False) for text in written]

    class Among:
        def __contains__(self, address: str) -> bool:
            return any(ipaddress.ip_address(address) in block for block in blocks)

    return Among()


def holds(expression: Any, **variables: Any) -> bool:
    predicate = compile_expression(
        expression, find=lambda name: (lambda ctx: ctx.get(name)) if name in FACTS else None, networks=networks
    )
    return predicate(variables)


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (["k", "==", "v"], "v", True),
        (["k", "v"], "v", True),
        (["k", "v"], "other", False),
        (["k", "=="], None, True),
        (["k", "==", None], "v", False),
        (["k", "==", 18], "18", True),
        (["k", "==", 18], "18.0", True),
        (["k", "==", 18], "0x12", True),
        (["k", "==", 18], " 18 ", True),
        (["k", "==", "18"], "18.0", False),
        (["k", "==", 18], None, False),
        (["k", "==", True], "True", False),
        (["k", "~=", "v"], "v", False),
        (["k", "~=", "v"], None, True),
        (["k", "~=", None], "v", True),
        (["k", "~=", None], None, False),
        (["k", "~=", 18], "18", False),
        (["k", "~=", 18], "aa", True),
        (["k", ">", 10], "11", True),
        (["k", ">", 10], "9", False),
        (["k", ">", "10"], "1e2", True),
        (["k", ">", 10], None, False),
        (["k", ">", 10], "nan", False),
        (["k", ">", 10], "inf", False),
        (["k", ">", 10], "9" * 5000, False),
        (["k", ">=", "2"], "2", True),
        (["k", "<", 3], "2", True),
        (["k", "<", 3], "x", False),
        (["k", "<=", "2"], "3", False),
        (["k", "~~", "[a-z]{1,4}"], "jack", True),
        (["k", "~~", "^[a-z]+$"], "Jack", False),
        (["k", "~~", "[a-z]"], None, False),
        (["k", "~*", "A"], "a", True),
        (["k", "~*", "A"], "b", False),
        (["k", "in", ["1", "2"]], "2", True),
        (["k", "in", ["1", "2"]], "4", False),
        (["k", "in", ["1", "2"]], None, False),
        (["k", "in", [200, 301]], "301", True),
        (["k", "IN", []], "1", False),
        (["k", "has", "a"], ["a", "b"], True),
        (["k", "HAS", "a"], ["b"], False),
        (["k", "has", "a"], "abc", False),
        (["k", "has", 1], [1.0], True),
        (["k", "has", 1], [True], False),
        (["k", "has", True], [1], False),
        (["k", "has", True], [True], True),
        (["k", "ipmatch", "127.0.0.0/16"], "127.0.9.9", True),
        (["k", "ipmatch", ["127.0.0.2", "2001:db8::/32"]], "2001:db8::1", True),
        (["k", "ipmatch", ["127.0.0.2"]], "127.0.0.1", False),
        (["k", "ipmatch", ["127.0.0.2"]], None, False),
        (["k", "!", ">", 10], "11", False),
        (["k", "!", ">", 10], None, True),
        (["k", "!", "in", ["1"]], "3", True),
        (["k", "!", "~~", "[a-z]"], "9", True),
        (["k", "!", "has", "a"], ["a"], False),
    ],
)
def test_a_rule(rule: list[Any], value: Any, expected: bool):
    assert holds([rule], k=value) is expected


@pytest.mark.parametrize(
    ("expression", "variables", "expected"),
    [
        ([], {}, True),
        ([["x", ">", 10], ["x", "!", ">", 15]], {"x": "11"}, True),
        ([["x", ">", 10], ["x", "!", ">", 15]], {"x": "16"}, False),
        (["AND", ["x", "1"], ["k", "2"]], {"x": "1", "k": "2"}, True),
        (["and", ["x", "1"], ["k", "2"]], {"x": "1"}, False),
        (["OR", ["x", "1"], ["k", "2"]], {"k": "2"}, True),
        (["OR", ["x", "1"], ["k", "2"]], {}, False),
        (["!AND", ["x", "1"], ["k", "2"]], {"x": "1"}, True),
        (["!OR", ["x", "1"], ["k", "2"]], {"x": "1"}, False),
        (["!OR", ["x", "1"], ["k", "2"]], {}, True),
        (["AND", ["x", "j"], ["!OR", ["age", ">", 10], ["k", "!", ">", 15]]], {"x": "j", "k": "16"}, True),
        (["AND", ["x", "j"], ["!OR", ["age", ">", 10], ["k", "!", ">", 15]]], {"x": "j", "age": "11"}, False),
        ([[["x", "1"], ["k", "2"]], ["name", "3"]], {"x": "1", "k": "2", "name": "3"}, True),
    ],
)
def test_rules_together(expression: Any, variables: dict[str, Any], expected: bool):
    assert holds(expression, **variables) is expected


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (None, "an expression is a list"),
        ("k", "an expression is a list"),
        (["k", "==", "v"], "rule should be wrapped inside brackets"),
        ([["k"]], "invalid expression (at [0])"),
        ([[]], "rule too short (at [0])"),
        (["OR", ["k", ">", 10]], "rule too short"),
        (["OR", ["k", ">", 10], ["AND"]], "rule too short (at [2])"),
        ([["!", "k", "==", "1"]], "bad 'not' expression"),
        ([["k", "=", "v"]], "invalid operator '='"),
        ([["k", ["v"], "v"]], "invalid operator"),
        ([["k", "==", "v", "w", "x"]], "at most four parts"),
        ([["k", "==", "v"], "k"], "is no rule"),
        ([["unheard_of", "==", "v"]], "there is no variable 'unheard_of' (at [0])"),
        ([[1, "==", "v"]], "there is no variable 1"),
        ([["k", ">", "ten"]], "is no number"),
        ([["k", "~~", "("]], "is no regular expression"),
        ([["k", "~~", None]], "is no regular expression"),
        ([["k", "in", "abc"]], "needs a list"),
        ([["ip", "ipmatch", None]], "ipmatch"),
        ([["ip", "ipmatch", []]], "ipmatch"),
        ([["ip", "ipmatch", [""]]], "invalid ip address"),
        ([["ip", "ipmatch", [1]]], "invalid ip address"),
        # Of what is long, the beginning.
        ([["k", "x" * 999, "v"]], "invalid operator 'xxx"),
        ([["x" * 999, "==", "v"]], "there is no variable 'xxx"),
        ([["k", "~~", "(" + "x" * 999]], "'(xxx"),
        ([["k", "==", "v"], "x" * 999], "'xxx"),
    ],
)
def test_what_is_none_is_refused_with_its_place(expression: Any, reason: str):
    with pytest.raises(ExpressionError) as caught:
        holds(expression)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


def test_nesting_has_an_end():
    expression: list[Any] = ["k", "1"]
    for _ in range(100):
        expression = [expression]
    with pytest.raises(ExpressionError, match="nested"):
        holds(expression)
