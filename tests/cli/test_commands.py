"""The commands that start nothing, as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gw.cli.greeting import of_settings
from gw.cli.main import main
from gw.cli.status import table
from gw.settings import load_agent_settings
from gw.shm.segment import SHM_DIR

KEY = "a-key-of-our-own-0123456789"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    name = f"jwtest-{os.getpid()}-cli"
    path.write_text(f"gw: {{workers: 2, shm: {{name: {name}}}, run_dir: run, data_dir: data}}\n")
    path.chmod(0o600)
    return path


def test_gw_test_says_ok_and_warns(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + "plugins: [cors]\n")
    assert main(["test", "-c", str(config)]) == 0
    out = capsys.readouterr().out
    assert "warning: plugins is not supported yet" in out
    assert f"{config}: ok (store sqlite:///{config.parent}/data/config.db, 2 workers)" in out
    assert not (config.parent / "data").exists()


@pytest.mark.parametrize(("command", "code"), [("test", 1), ("status", 1), ("stop", 1), ("start", 78)])
def test_a_wrong_configuration_is_told_on_standard_error(
    config: Path, capsys: pytest.CaptureFixture[str], command: str, code: int
) -> None:
    config.write_text("gw: {rebild: {}, workers: none}\n")
    assert main([command, "-c", str(config)]) == code
    err = capsys.readouterr().err
    assert f"{config}: gw.rebild: unknown key; did you mean gw.rebuild?" in err
    assert f"{config}: gw.workers: must be" in err


def test_gw_test_knows_whether_the_host_knows_the_names(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("gw: {shm: {owners: [no-such-user-here]}}\n")
    assert main(["test", "-c", str(config)]) == 1
    assert "no user 'no-such-user-here'" in capsys.readouterr().err


def test_status_of_what_does_not_run(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "-c", str(config)]) == 1
    assert "nothing of 'jwtest-" in capsys.readouterr().out
    assert main(["status", "--json", "-c", str(config)]) == 1
    status = json.loads(capsys.readouterr().out)
    assert status["converged"] is False
    assert status["workers"] == []
    assert status["agent"]["alive"] is False
    assert main(["status", "--wait", "0", "-c", str(config)]) == 1
    assert "not converged within 0 s" in capsys.readouterr().err


def test_stop_cleans_up_what_a_killed_start_left(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"jwtest-{os.getpid()}-cli"
    segment = SHM_DIR / f"{name}.v1.control"
    segment.write_bytes(bytes(576))
    other = SHM_DIR / f"{name}.v1.other"
    other.write_bytes(b"not ours")
    try:
        (config.parent / "run").mkdir()
        (config.parent / "run" / f"{name}.agent.sock").touch()
        assert main(["stop", "-c", str(config)]) == 0
        out = capsys.readouterr().out
        assert f"/{name}.v1.control" in out
        assert f"{name}.agent.sock" in out
        assert not segment.exists()
        assert other.exists()
        assert os.listdir(config.parent / "run") == []
        assert main(["stop", "-c", str(config)]) == 0
        assert "nothing was left" in capsys.readouterr().out
    finally:
        segment.unlink(missing_ok=True)
        other.unlink()


def test_wrong_usage_is_2_and_version_is_told() -> None:
    def gw(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "gw.cli.main", *arguments], capture_output=True, text=True)

    assert gw().returncode == 2
    assert gw("strat").returncode == 2
    assert gw("status", "--wait", "-1").returncode == 2
    assert gw("version").stdout.startswith("jitterway ")


def test_the_greeting_tells_where_the_key_lies_and_never_the_key(config: Path) -> None:
    generated = of_settings(load_agent_settings(config, environ={}))
    assert f"$(cat {config.parent}/data/admin.key)" in generated
    assert "http://127.0.0.1:9080  (all addresses: 0.0.0.0:9080)" in generated
    assert "curl -X PUT http://127.0.0.1:9180/apisix/admin/routes/1" in generated
    assert "http://127.0.0.1:9091/apisix/prometheus/metrics" in generated
    assert "run as one user here" in generated

    config.write_text(f"deployment: {{admin: {{admin_key: [{{name: a, key: {KEY}, role: admin}}]}}}}\n")
    configured = of_settings(load_agent_settings(config, environ={}))
    assert KEY not in configured
    assert f"deployment.admin.admin_key in {config}" in configured
    assert "$ADMIN_KEY" in configured

    config.write_text("apisix: {enable_admin: false}\nplugin_attr: {prometheus: {enable_export_server: false}}\n")
    quiet = of_settings(load_agent_settings(config, environ={}))
    assert "curl" not in quiet
    assert "metrics" not in quiet


def test_the_table_of_a_dead_agent_says_so() -> None:
    worker = {
        "cell": 0, "pid": 7, "alive": True, "state": "serving", "current": False, "version": 3, "revision": 9,
        "digest": "00000000000000aa", "applied_at": None, "rebuild_kind": "full", "rebuild_duration_ms": 1.25,
        "jitter_ms": 4, "staleness_ms": 0, "worst_staleness_ms": 0, "problems": 0,
    }
    agent = {
        "pid": 5, "alive": False, "answers": False, "state": "gone", "version": 4, "revision": 9,
        "digest": "00000000000000bb", "heartbeat_age_ms": 9000, "store": None, "problem": None,
        "rejected": None, "rejected_count": None, "resources": None,
    }
    shown = table({"agent": agent, "workers": [worker], "expected_workers": 2, "converged": False}, "x")
    assert "x: not converged" in shown
    assert "agent    pid 5, gone: changes wait for it, traffic goes on" in shown
    assert "serving, behind" in shown
    assert "2 workers are expected" in shown
