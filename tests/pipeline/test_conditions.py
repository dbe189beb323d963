"""Conditions over the variables of a request."""

from __future__ import annotations

from typing import Any

import pytest

from gw.pipeline.conditions import compile_condition
from tests.support.finished import finished


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ([["arg_x", "==", "1"], ["status", "==", 200]], True),
        ([["status", "in", [301, 302]]], False),
        ([["http_user_agent", "~~", "^curl/"]], True),
        ([["remote_addr", "ipmatch", ["192.0.2.77/24"]]], True),
        ([["remote_addr", "ipmatch", ["::ffff:192.0.2.0/120"]]], True),
        ([["remote_addr", "ipmatch", "192.0.3.0/24"]], False),
        (["OR", ["service_id", "s1"], ["uri", "~~", "^/none"]], True),
        ([["sent_http_content_type", "text/plain"]], True),
        ([["cookie_none", "==", None]], True),
    ],
)
def test_it_holds_or_not(condition: Any, expected: bool):
    assert compile_condition(condition)(finished()) is expected


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ([["uri_of_nobody", "==", "1"]], "there is no variable"),
        ([["remote_addr", "ipmatch", "::ffff:10.0.0.0/8"]], "all IPv4"),
        ([["remote_addr", "ipmatch", "10.0.0.0/33"]], "invalid ip address"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(condition: Any, reason: str):
    with pytest.raises(ValueError, match=reason):
        compile_condition(condition)
