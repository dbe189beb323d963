"""References to secrets: which texts are one, and what stands in their place."""

from __future__ import annotations

from typing import Any

import pytest

from gw.model.secret_references import UnresolvedReference, resolve_references

ENVIRON = {
    "KEY": "planted-value",
    "EMPTY": "",
    "JACK": '{"auth-key": "planted-member", "n": 7, "object": {}, "none": null}',
    "LIST": "[1]",
    "NESTED": "$env://KEY",
    "$ODD": "odd",
}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("$env://KEY", "planted-value"),
        ("$ENV://KEY", "planted-value"),
        ("$Env://KEY", "planted-value"),
        ("$env://EMPTY", ""),
        ("$env://JACK/auth-key", "planted-member"),
        ("$env://JACK/n", 7),
        ({"a": [{"b": "$env://KEY"}, 1], "c": "d"}, {"a": [{"b": "planted-value"}, 1], "c": "d"}),
        # What is found is not looked at again.
        ("$env://NESTED", "$env://KEY"),
        # A reference is a text as a whole.
        ("Bearer $env://KEY", "Bearer $env://KEY"),
        (" $env://KEY", " $env://KEY"),
        ("$http_x", "$http_x"),
        ("$env:/KEY", "$env:/KEY"),
        ({"$env://KEY": 1}, {"$env://KEY": 1}),
        ("", ""),
    ],
)
def test_what_a_text_stands_for(written: Any, meant: Any) -> None:
    assert resolve_references(written, ENVIRON) == meant


def test_a_configuration_without_references_is_the_same_object() -> None:
    conf = {"a": [{"b": "$http_x"}], "c": {"d": None}, "e": True, "f": ("x",)}
    assert resolve_references(conf, ENVIRON) is conf


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("$env://MISSING", "has no variable MISSING"),
        ("$env://", "has no variable"),
        ("$env://KEY/member", "is not JSON"),
        ("$env://LIST/0", "no text or number as its member 0"),
        ("$env://JACK/object", "as its member object"),
        ("$env://JACK/none", "as its member none"),
        ("$env://JACK/other", "as its member other"),
        ("$secret://vault/1/jack/key", "not supported yet"),
    ],
)
def test_what_is_not_there_is_named_with_its_place_and_no_value(written: str, reason: str) -> None:
    with pytest.raises(UnresolvedReference) as caught:
        resolve_references({"a": [{"b": written}]}, ENVIRON)
    told = str(caught.value)
    assert told.startswith(f"a[0].b: {written}: ")
    assert reason in told
    assert "planted" not in told
