"""The commands that start nothing, as a user calls them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gw.cli import exit_codes
from gw.cli.greeting import of_settings
from gw.cli.main import main
from gw.cli.status import table
from gw.cli.status_wait import outcome
from gw.clock import SystemClock
from gw.settings import load_agent_settings
from gw.shared.store import SharedStore
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
    assert "warning: plugin cors is not installed" in out
    assert f"{config}: ok (store sqlite:///{config.parent}/data/config.db, 2 workers)" in out
    assert not (config.parent / "data").exists()


def test_gw_test_judges_the_document_of_a_data_plane(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data_plane = "deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}\nplugins: [limit-count]\n"
    config.write_text(config.read_text() + data_plane)
    document = config.parent / "apisix.yaml"

    def judged(text: str) -> tuple[int, str, str]:
        document.write_text(text)
        return main(["test", "-c", str(config)]), *capfd.readouterr()

    code, out, _ = judged("routes:\n  - {uri: /a, plugins: {absent: {}}}\nnonsense: 1\n#END\n")
    assert code == 0
    assert f"{document}: warning: routes[0] (routes/arr_1): plugins.absent: the Admin API would refuse it" in out
    assert f"{document}: warning: nonsense: is no kind" in out
    assert f"{document}: ok (1 resources)" in out
    code, out, err = judged(
        "routes:\n  - {id: 1, uri: /a, plugins: {}, priority: high}\n"
        "  - {id: 1, uri: '${{NOBODY_SET_IT}}', plugins: {}}\n"
        "services:\n  - {id: s, plugins: {limit-count: {count: 0}}}\n#END\n"
    )
    assert code == 1
    assert "routes[1] (routes/1): stands there more than once" in out
    assert [line.removeprefix(f"{document}: ")[:44] for line in err.splitlines()] == [
        "routes[0] (routes/1): priority: property \"pr",
        "routes[1] (routes/1): uri: environment varia",
        "services[0] (services/s): plugins.limit-coun",
    ]
    code, _, err = judged("routes: []\n")
    assert (code, err) == (1, f"{document}: has no #END on its last line, so it is still being written\n")
    document.unlink()
    assert main(["test", "-c", str(config)]) == 1
    assert f"{document}: cannot be read: No such file" in capfd.readouterr().err
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
    assert status["traffic"] is None
    assert status["agent"]["alive"] is False
    assert main(["status", "--wait", "0", "-c", str(config)]) == 1
    err = capsys.readouterr().err
    assert "gw: the store's revision of now is not known: the sync agent is away" in err
    assert "gw: revision 0 is not served by every worker now" in err
    assert "absent: 0 of 1 expected workers are there" in err
    assert main(["status", "--revision", "7", "-c", str(config)]) == 1
    assert "revision 7 is not served by every worker now" in capsys.readouterr().err


def test_stop_cleans_up_what_a_killed_start_left(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"jwtest-{os.getpid()}-cli"
    segment = SHM_DIR / f"{name}.v2.control"
    segment.write_bytes(bytes(576))
    other = SHM_DIR / f"{name}.v2.other"
    other.write_bytes(b"not ours")
    older = SHM_DIR / f"{name}.v1.control"
    older.write_bytes(bytes(576))
    state = SHM_DIR / f"{name}.v2.state"
    SharedStore.open(state, 4 << 20, SystemClock()).close()
    try:
        (config.parent / "run").mkdir()
        (config.parent / "run" / f"{name}.agent.sock").touch()
        assert main(["stop", "-c", str(config)]) == 0
        out = capsys.readouterr().out
        assert f"/{name}.v2.control" in out
        assert f"{name}.agent.sock" in out
        assert str(state) in out
        assert not segment.exists()
        assert not state.exists()
        assert other.exists()
        assert os.listdir(config.parent / "run") == []
        assert main(["stop", "-c", str(config)]) == 0
        out, err = capsys.readouterr()
        assert "nothing was left" in out
        assert f"/dev/shm/{name}.v1.* is of another version" in err
        assert main(["status", "-c", str(config)]) == 1
        assert f"/dev/shm/{name}.v1.* is of another version" in capsys.readouterr().err
    finally:
        segment.unlink(missing_ok=True)
        other.unlink()
        older.unlink()
        shutil.rmtree(state, ignore_errors=True)


@pytest.mark.parametrize("command", [["openapi"], ["plugins", "--json"], ["version"]])
def test_a_reader_that_goes_away_ends_a_command_in_silence(config: Path, command: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "gw.cli.main", *command, "-c", str(config)], stdout=write_end, stderr=subprocess.PIPE
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (exit_codes.PIPE_CLOSED, b"")


def test_wrong_usage_is_2_and_version_is_told() -> None:
    def gw(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "gw.cli.main", *arguments], capture_output=True, text=True)

    assert gw().returncode == 2
    assert gw("strat").returncode == 2
    assert gw("status", "--wait", "-1").returncode == 2
    for revision in ("0", "-3", "1.5", "newest", str(2**63)):
        assert gw("status", "--revision", revision).returncode == 2
    assert gw("version").stdout.startswith("jitterway ")


def test_the_greeting_tells_where_the_key_lies_and_never_the_key(config: Path) -> None:
    generated = of_settings(load_agent_settings(config, environ={}))
    assert f"$(cat {config.parent}/data/admin.key)" in generated
    assert "http://127.0.0.1:9080  (all addresses: 0.0.0.0:9080)" in generated
    assert "curl -X PUT 'http://127.0.0.1:9180/apisix/admin/routes/1?wait=2000'" in generated
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
        "jitter_ms": 4, "staleness_ms": 12, "worst_staleness_ms": 321, "problems": 0, "rebuild_held_ms": 0.37,
        "digest_mismatches": 0, "failures": 0,
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
    assert "since it started" not in shown


def test_the_table_shows_what_pacing_did_and_what_should_not_be() -> None:
    worker = {
        "cell": 0, "pid": 7_654_321, "alive": True, "state": "serving", "current": False, "version": 12_345_678,
        "revision": 9, "digest": "0123456789abcdef", "applied_at": "2026-01-02T03:04:05.678Z", "rebuild_kind": "update",
        "rebuild_duration_ms": 1.25, "jitter_ms": 599_999, "staleness_ms": 12, "worst_staleness_ms": 4321,
        "problems": 123_456, "rebuild_held_ms": 0.37, "digest_mismatches": 2, "failures": 1,
    }
    agent = {
        "pid": 5, "alive": True, "answers": True, "state": "watching", "version": 4, "revision": 9,
        "digest": "00000000000000bb", "heartbeat_age_ms": 9, "store": "etcd", "problem": None,
        "rejected": [], "rejected_count": 0, "resources": 3,
    }
    lines = table({"agent": agent, "workers": [worker], "expected_workers": 1, "converged": False}, "x").splitlines()
    heading, row, trouble = lines[-3:]
    assert heading.split() == [
        "WORKER", "STATE", "VERSION", "DIGEST", "APPLIED", "AT", "REBUILD", "TOOK", "HELD", "JITTER", "STALE", "WORST",
        "PROBLEMS",
    ]
    assert row.split() == [
        "7654321", "serving,", "behind", "12345678", "01234567", "2026-01-02T03:04:05Z", "update", "1.2ms", "0.4ms",
        "600s", "12ms", "4321ms", "123456",
    ]
    assert trouble.startswith("worker 7654321 since it started: 2 digest mismatches, 1 failures to take up a version;")
    assert max(map(len, lines)) <= 130


@pytest.mark.parametrize(
    ("late", "unknown", "code", "lines"),
    [
        ([], "", 0, ()),
        ([], "away", 3, ("not known: away", "every worker serves the newest published version, revision 5")),
        (["x"], "", 1, ("revision 5 is not served by every worker within 1.5 s", "worker 9 (serving): x")),
        (["x"], "away", 1, ("not known: away", "revision 5 is not served", "worker 9 (serving): x")),
    ],
)
def test_what_waiting_ends_with(late: list[str], unknown: str, code: int, lines: tuple[str, ...]) -> None:
    waited = outcome(5, 1.5, [{"pid": 9, "state": "serving", "why": why} for why in late], unknown)
    assert waited.exit_code == code
    assert len(waited.lines) == len(lines)
    assert all(part in line for part, line in zip(lines, waited.lines, strict=True))


def test_workers_that_are_absent_are_told_once() -> None:
    absent = {"pid": None, "state": "absent", "why": "1 of 4 expected workers are there"}
    assert outcome(5, 0.0, [absent] * 3, "").lines == (
        "revision 5 is not served by every worker now", "  absent: 1 of 4 expected workers are there"
    )
