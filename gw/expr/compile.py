"""From a list as it stands in the configuration to a predicate. Grammar and meaning are lua-resty-expr's:

    expression   []                                      holds always
                 [rule, rule, ...]                       all hold
                 ["AND" | "OR" | "!AND" | "!OR", rule, rule, ...]
    rule         [variable, operator, value]
                 [variable, "!", operator, value]        the opposite
                 [variable, value]                       the same as ==
                 expression (not empty)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from gw.expr.errors import ExpressionError, shown
from gw.expr.operators import OPERATORS, Getter, Networks, Predicate

# A variable's name -> what reads it, None for a name that nobody knows.
Finder: TypeAlias = Callable[[str], Getter | None]

_NOT: Final = "!"
# Deeper than anybody writes, and far from Python's own limit.
_MAX_DEPTH: Final = 64


def _always(_: Any) -> bool:
    return True


def compile_expression(rules: object, *, find: Finder, networks: Networks) -> Predicate:
    """Settle an expression. Raises ExpressionError, which says where, also for a variable that does not exist: a
    condition that cannot be looked at must neither hold nor fail in silence.
    """
    if not isinstance(rules, list | tuple):
        raise ExpressionError("an expression is a list of rules")
    if not rules:
        return _always
    if not isinstance(rules[0], list | tuple) and _logic_of(rules) is None:
        raise ExpressionError("rule should be wrapped inside brackets")
    return _Compiler(find, networks).rule(rules, "", 0)


class _Compiler:
    def __init__(self, find: Finder, networks: Networks) -> None:
        self._find = find
        self._networks = networks

    def rule(self, rule: object, place: str, depth: int) -> Predicate:
        if not isinstance(rule, list | tuple):
            raise ExpressionError(f"{shown(rule)} is no rule: a rule is a list", place)
        if not rule:
            raise ExpressionError("rule too short", place)
        if depth > _MAX_DEPTH:
            raise ExpressionError(f"rules are nested more than {_MAX_DEPTH} deep", place)
        if isinstance(rule[0], list | tuple):
            return _all(self._rules(rule, 0, place, depth))
        join = _logic_of(rule)
        if join is None:
            return self._comparison(rule, place)
        if len(rule) < 3:
            raise ExpressionError("rule too short", place)
        return join(self._rules(rule, 1, place, depth))

    def _rules(self, rules: Sequence[object], first: int, place: str, depth: int) -> tuple[Predicate, ...]:
        return tuple(
            self.rule(rule, f"{place}[{number}]", depth + 1) for number, rule in enumerate(rules[first:], first)
        )

    def _comparison(self, rule: Sequence[Any], place: str) -> Predicate:
        variable, name, value, is_reversed = _parts(rule, place)
        if not isinstance(variable, str) or (get := self._find(variable)) is None:
            raise ExpressionError(f"there is no variable {shown(variable)}", place)
        try:
            holds = OPERATORS[name](get, value, self._networks)
        except ExpressionError as error:
            raise ExpressionError(error.reason, place) from None
        return (lambda ctx: not holds(ctx)) if is_reversed else holds


def _parts(rule: Sequence[Any], place: str) -> tuple[object, str, Any, bool]:
    """Variable, operator, value, and whether the opposite is meant."""
    if len(rule) > 4:
        raise ExpressionError("a rule has at most four parts: variable, !, operator, value", place)
    if len(rule) == 4:
        if rule[1] != _NOT:
            raise ExpressionError("bad 'not' expression", place)
        return rule[0], _operator(rule[2], place), rule[3], True
    if len(rule) == 1:
        raise ExpressionError("invalid expression", place)
    if len(rule) == 2:
        written = rule[1]
        if isinstance(written, str) and written.lower() in OPERATORS:
            return rule[0], written.lower(), None, False
        return rule[0], "==", written, False
    return rule[0], _operator(rule[1], place), rule[2], False


def _operator(written: object, place: str) -> str:
    name = written.lower() if isinstance(written, str) else written
    if not isinstance(name, str) or name not in OPERATORS:
        raise ExpressionError(f"invalid operator '{shown(str(written))[1:-1]}'", place)
    return name


def _all(rules: tuple[Predicate, ...]) -> Predicate:
    if len(rules) == 1:
        return rules[0]

    def predicate(ctx: Any) -> bool:
        for holds in rules:  # noqa: SIM110 - PERF: a generator for each request takes as long as two comparisons
            if not holds(ctx):
                return False
        return True

    return predicate


def _any(rules: tuple[Predicate, ...]) -> Predicate:
    def predicate(ctx: Any) -> bool:
        for holds in rules:  # noqa: SIM110 - PERF: as above
            if holds(ctx):
                return True
        return False

    return predicate


def _none(rules: tuple[Predicate, ...]) -> Predicate:
    some = _any(rules)
    return lambda ctx: not some(ctx)


def _not_all(rules: tuple[Predicate, ...]) -> Predicate:
    every = _all(rules)
    return lambda ctx: not every(ctx)


_LOGIC: Final = {"AND": _all, "OR": _any, "!AND": _not_all, "!OR": _none}


def _logic_of(rule: Sequence[object]) -> Callable[[tuple[Predicate, ...]], Predicate] | None:
    first = rule[0]
    return _LOGIC.get(first.upper()) if isinstance(first, str) else None
