"""The shipped default file says what the code does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gw.settings import load_agent_settings
from gw.settings.agent_tree import AgentTree
from gw.settings.declare import Setting, leaf_paths
from gw.settings.reference import render_defaults
from gw.settings.tree import Settings

CONF = Path(__file__).parents[2] / "conf"


def test_the_shipped_file_is_what_the_declarations_print() -> None:
    assert (CONF / "config-default.yaml").read_text() == render_defaults(), (
        "run: .venv/bin/python -m gw.settings.reference > conf/config-default.yaml"
    )


def test_the_shipped_file_loads_to_the_same_as_an_empty_one(config: Callable[[str], Path]) -> None:
    # What is written in the file counts as chosen by the user, so the two keys that choose the store are left out.
    text = render_defaults()
    written = yaml.safe_load(text)
    del written["deployment"]["etcd"]
    del written["deployment"]["role_traditional"]
    empty = load_agent_settings(config(""))
    full = load_agent_settings(config(yaml.safe_dump(written)))
    assert full == empty
    assert full.warnings == ()


@pytest.mark.parametrize(("path", "declared"), [*leaf_paths(Settings), *leaf_paths(AgentTree)])
def test_every_setting_has_a_meaning_and_a_number_its_unit(path: str, declared: Setting) -> None:
    assert declared.help.endswith((".", ".)")), path
    numeric = "number" in declared.kind.form or "size" in declared.kind.form or "time" in declared.kind.form
    assert not numeric or declared.unit or path.endswith("port"), path


def test_the_user_file_of_the_repository_loads_without_a_warning() -> None:
    agent = load_agent_settings(CONF / "config.yaml", environ={})
    root = CONF.parent
    assert agent.warnings == ()
    assert agent.store_url == f"sqlite:///{root}/var/config.db"
    assert agent.key_file == root / "var/admin.key"
    assert agent.generate_admin_key
    assert agent.settings.gw.workers == 2
    assert agent.settings.socket_path == root / "var/run/jitterway.agent.sock"
