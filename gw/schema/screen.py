"""What any resource must be before a schema looks at it: JSON that msgpack can carry and that a worker can walk.

The check makes the copy that validation then fills defaults into, so the caller's value is never changed. Floats that
are whole numbers become integers, as in APISIX, whose Lua knows one kind of number: `1.0` is a valid `priority`.
"""

from math import isfinite
from typing import Any, Final

from gw.schema.wording import Place, Step

# A vars expression of people nests some 10 deep; canonical msgpack stops at 511 and Python's stack at 1000 frames.
MAX_DEPTH: Final = 128
# What msgpack can carry.
MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1


class Unfit(ValueError):
    """A value that no resource may hold. `place` says where; the text is the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._steps: list[Step] = []

    def under(self, step: Step) -> None:
        """Note that the value lies below this step; called from the inside out."""
        self._steps.append(step)

    @property
    def place(self) -> Place:
        return tuple(reversed(self._steps))


def copy_json(value: Any, room: int = MAX_DEPTH) -> Any:
    """A deep copy of a JSON value. Raises Unfit with the place of what cannot be kept.

    `room` is how many levels may still lie below.
    """
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _check_text(value)
        return value
    if kind is dict:
        return _copy_object(value, room)
    if kind is list:
        return _copy_array(value, room)
    if kind is bool or value is None:
        return value
    if kind is int:
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise Unfit("number out of range: more than 64 bits")
        return value
    if kind is float:
        return _whole(value)
    raise Unfit(f"wrong type: {kind.__name__} is not a type of JSON")


def _copy_object(value: dict[Any, Any], room: int) -> dict[str, Any]:
    if not room:
        raise Unfit(f"nested too deeply: more than {MAX_DEPTH} levels")
    copy: dict[str, Any] = {}
    for name, item in value.items():
        try:
            if type(name) is not str:
                raise Unfit("wrong type: a property's name is not a string")
            if not name.isascii():
                _check_text(name)
            # What copy_json would do, without a call for what most values are.
            copy[name] = item if type(item) is str and item.isascii() else copy_json(item, room - 1)
        except Unfit as unfit:
            unfit.under(str(name))
            raise
    return copy


def _copy_array(value: list[Any], room: int) -> list[Any]:
    if not room:
        raise Unfit(f"nested too deeply: more than {MAX_DEPTH} levels")
    copy: list[Any] = []
    for position, item in enumerate(value):
        try:
            copy.append(copy_json(item, room - 1))
        except Unfit as unfit:
            unfit.under(position)
            raise
    return copy


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unfit("string holds half of a surrogate pair, which UTF-8 cannot carry") from None


def _whole(value: float) -> float | int:
    if not isfinite(value):
        raise Unfit("number is not finite")
    if not value.is_integer():
        return value
    if not MIN_INTEGER <= value <= MAX_INTEGER:
        raise Unfit("number out of range: more than 64 bits")
    return int(value)
