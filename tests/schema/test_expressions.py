"""What the agent takes for a path into a body is what a worker can follow."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gw.pipeline.json_path import compile_json_path
from gw.schema.expressions import is_json_path


@given(st.text("ab.[]*$'\"0-1", max_size=12))
@example("messages[.content[*].type")
@example("$.messages[*].content[-1]['a.b'].type")
@example("a[?(@.x)]")
@example("['a']b']")
@example("[\n]")
def test_agent_and_worker_agree_on_paths(path: str) -> None:
    assert is_json_path(path) == (compile_json_path(path) is not None)


@pytest.mark.parametrize("path", ["[" * 5000, "['" * 5000, ".." * 5000 + "]", "a[0]" * 5000 + "["])
def test_a_long_path_takes_its_time_by_its_length(path: str) -> None:
    assert not is_json_path(path)
