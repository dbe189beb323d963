"""What a reload finds out before it starts anything, in a process of its own."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from gw.cli import trial
from gw.cli.run_lock import find_holder, lock_path, orders_path, run_lock, unit_directory
from gw.cli.trial import Plan, secret_variables, try_out, unchangeable
from gw.errors import JitterwayError
from gw.settings import load_agent_settings, load_settings

KEY = "a-key-of-our-own-0123456789"
CONFIG = "gw: {workers: 2, run_dir: run, data_dir: data}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


def test_the_plan_is_the_configurations_and_the_supervisors_environment_counts(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Plan.of(load_settings(config))
    config.write_text(
        CONFIG + "nginx_config: {worker_shutdown_timeout: 7s}\n"
        "deployment: {admin: {admin_key: [{name: a, key: '${{THE_KEY}}', role: admin}]}}\n"
    )
    monkeypatch.setenv("THE_KEY", KEY)
    plan = try_out(str(config), running, has_agent=True)
    assert plan.graceful_timeout_s == 7
    assert plan.withheld == ["THE_KEY"]
    assert KEY not in str(plan)
    # Without an agent beside it, as under systemd, nothing of the agent's is read.
    assert try_out(str(config), running, has_agent=False).withheld == []


def test_which_variables_are_withheld(config: Path) -> None:
    config.write_text(f"deployment: {{admin: {{admin_key: [{{name: a, key: {KEY}, role: admin}}]}}}}\n")
    agent = load_agent_settings(config, environ={})
    environ = {"WHOLE": KEY, "PART": KEY[:10], "SHORT": KEY[:3], "EMPTY": "", "OTHER": "something-else-entirely"}
    assert secret_variables(agent, environ) == {"WHOLE", "PART"}
    keys = "data_encryption: {keyring: [a-key-of-our-own]}, ssl: {key_encrypt_salt: an-older-key-456}"
    config.write_text(f"apisix: {{{keys}}}")
    agent = load_agent_settings(config, environ={})
    environ = {"RING": "a-key-of-our-own", "SALT": "an-older-key-456", "OTHER": "something-else-entirely"}
    assert secret_variables(agent, environ) == {"RING", "SALT"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"listeners": ["traffic 0.0.0.0:1"]}, "the listeners (traffic 0.0.0.0:9080"),
        ({"name": "other"}, "gw.shm.name (jitterway -> other)"),
        ({"run_dir": "/other"}, "gw.run_dir ("),
        ({"shm_format": 999}, "the format of shared memory (v"),
        ({"graceful_timeout_s": 1.0, "reload_timeout_s": 2.0, "withheld": ["A"]}, None),
    ],
)
def test_what_a_reload_cannot_change(config: Path, change: dict[str, object], told: str | None) -> None:
    plan = Plan.of(load_settings(config))
    found = unchangeable(plan, dataclasses.replace(plan, **change))  # type: ignore[arg-type]
    assert [text.startswith(told or "") for text in found] == ([True] if told else [])


def test_what_is_refused_is_told_in_its_own_words(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Plan.of(load_settings(config))
    config.write_text("gw: {rebild: {}}\n")
    with pytest.raises(JitterwayError, match=r"(?s)configuration refused.*did you mean gw.rebuild\?"):
        try_out(str(config), running, has_agent=False)
    config.write_text(CONFIG + "apisix: {node_listen: 9999}\n")
    with pytest.raises(JitterwayError, match=r"cannot change the listeners .*9080.*9999.*start it again"):
        try_out(str(config), running, has_agent=False)
    monkeypatch.setattr(trial, "TRIAL_TIMEOUT_S", 0.001)
    with pytest.raises(JitterwayError, match="did not load within"):
        try_out(str(config), running, has_agent=False)


def test_where_the_lock_of_a_unit_is_and_who_holds_it(config: Path, tmp_path: Path) -> None:
    settings = load_settings(config)
    assert unit_directory({}) is None
    assert unit_directory({"RUNTIME_DIRECTORY": "/run/a:/run/b"}) == Path("/run/a")
    assert lock_path(settings).parent == settings.gw.run_dir
    lock = lock_path(settings, tmp_path)
    assert orders_path(lock) == tmp_path / "jitterway.gw.sock"
    assert find_holder(lock) is None
    with run_lock(lock):
        holder = find_holder(lock)
        assert holder is not None
        assert holder.pid == os.getpid()
    lock.write_text(f"{os.getpid()} 1\n")  # another process had our pid
    assert find_holder(lock) is None
    lock.write_text("")
    assert find_holder(lock) is None
