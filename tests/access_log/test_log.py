"""The log of a worker on real files, pipes and devices: whole lines, reopening, and nobody waiting for a disk."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gw.access_log.file import LogFile, _pieces
from gw.access_log.line import LineFormat
from gw.access_log.log import AccessLog
from gw.access_log.writer import LogWriter
from gw.settings import load_settings
from tests.support.finished import SteadyClock, finished, request
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


class Timers:
    """Remembers what is to be called later."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any:
        self.waiting.append(callback)
        return self

    def cancel(self) -> None:
        self.waiting.pop()

    def fire(self) -> None:
        self.waiting[-1]()


def log_to(
    path: Path, *, buffer_bytes: int = 0, timers: Timers | None = None, waiting_bytes: int = 1 << 20
) -> AccessLog:
    writer = LogWriter(LogFile(path), SteadyClock(), max_waiting_bytes=waiting_bytes)
    writer.start()
    return AccessLog(LineFormat("$arg_n"), writer, timers or Timers(), buffer_bytes=buffer_bytes)


@pytest.fixture
def logs() -> Iterator[Callable[..., AccessLog]]:
    opened: list[AccessLog] = []

    def make(path: Path, **options: Any) -> AccessLog:
        opened.append(log_to(path, **options))
        return opened[-1]

    yield make
    for log in opened:
        log._writer.stop(5.0)


def add(log: AccessLog, *numbers: int) -> None:
    for number in numbers:
        log.add(finished(request(query=b"n=%d" % number)))


def test_lines_are_collected_until_the_buffer_is_full(tmp_path: Path, logs: Callable[..., AccessLog]) -> None:
    path, timers = tmp_path / "logs/deep/access.log", Timers()
    log = logs(path, buffer_bytes=4, timers=timers)
    add(log, 1)
    assert len(timers.waiting) == 1
    add(log, 2)
    wait_until(lambda: path.read_text() == "1\n2\n", what="both lines")
    assert timers.waiting == []
    assert path.stat().st_mode & 0o007 == 0


def test_a_line_does_not_wait_for_ever(tmp_path: Path, logs: Callable[..., AccessLog]) -> None:
    path, timers = tmp_path / "access.log", Timers()
    log = logs(path, buffer_bytes=1 << 14, timers=timers)
    add(log, 1, 2)
    assert len(timers.waiting) == 1
    timers.fire()
    wait_until(lambda: path.read_text() == "1\n2\n", what="both lines")
    assert timers.waiting == []


def test_closing_writes_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = log_to(path, buffer_bytes=1 << 14)
    add(log, *range(1000))
    log.close()
    assert path.read_text().splitlines() == [str(number) for number in range(1000)]
    assert log.dropped_lines == 0


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path, logs: Callable[..., AccessLog]) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    log = logs(path)
    add(log, 1)
    wait_until(path.read_text, what="the first line")
    path.rename(moved)
    add(log, 2)
    wait_until(path.read_text, what="the second line in a new file")
    assert (moved.read_text(), path.read_text()) == ("1\n", "2\n")
    path.unlink()
    add(log, 3)
    wait_until(lambda: path.read_text() == "3\n", what="the third line in a third file")


def test_a_file_that_was_emptied_goes_on_at_its_beginning(tmp_path: Path, logs: Callable[..., AccessLog]) -> None:
    path = tmp_path / "access.log"
    log = logs(path)
    add(log, 1)
    wait_until(path.read_text, what="the first line")
    os.truncate(path, 0)
    add(log, 2)
    wait_until(lambda: path.read_text() == "2\n", what="the second line, without a hole before it")


def test_reopening_on_demand(tmp_path: Path) -> None:
    """SIGUSR1: lines go on, and what was open is closed."""
    path = tmp_path / "access.log"
    log = log_to(path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(10):
        log.reopen()
        add(log, number)
    wait_until(lambda: path.read_text().count("\n") == 10, what="all lines")
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    log.close()


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    script = """
import sys
from pathlib import Path
from tests.access_log.test_log import log_to
from tests.support.finished import finished, request
log = log_to(Path(sys.argv[1]), buffer_bytes=16384, waiting_bytes=1 << 24)
ctx = finished(request(query=b"n=" + sys.argv[2].encode() * 150))
for _ in range(5000):
    log.add(ctx)
log.close()
"""
    workers = [subprocess.Popen([sys.executable, "-c", script, str(path), letter], cwd=ROOT) for letter in "abc"]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    lines = path.read_text().splitlines()
    assert len(lines) == 15_000
    assert set(lines) == {letter * 150 for letter in "abc"}


def test_a_stalled_reader_costs_lines_and_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        log = log_to(path, waiting_bytes=1 << 17)
        ctx = finished(request(query=b"n=" + b"x" * 1000))
        # More than the pipe and what may wait hold together.
        for _ in range(400):
            log.add(ctx)
        assert log.dropped_lines > 0
        assert log._writer.waiting_bytes <= 1 << 17
        (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "not written as fast as lines come" in told.getMessage()
        os.set_blocking(reader, True)
        whole = 0
        while whole < 400 - log.dropped_lines:
            whole += os.read(reader, 1 << 16).count(b"\n")
        log.close()
        assert whole + log.dropped_lines == 400
    finally:
        os.close(reader)


def test_a_full_disk_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    log = log_to(Path("/dev/full"))
    add(log, *range(50))
    log.close()
    assert log.dropped_lines == 50
    (told,) = caplog.records
    assert "access log /dev/full: cannot be written: No space left on device" in told.getMessage()


def test_what_cannot_be_opened_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "logs"
    blocked.write_text("a file where a directory should be")
    log = log_to(blocked / "access.log")
    add(log, 1)
    wait_until(lambda: log.dropped_lines == 1, what="the first line is lost")
    assert "cannot be opened" in caplog.records[0].getMessage()
    blocked.unlink()
    add(log, 2)
    log.close()
    assert (blocked / "access.log").read_text() == "2\n"
    assert log.dropped_lines == 1


def test_what_a_full_disk_cut_off_takes_no_other_line_with_it(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "access.log")
    file.open()
    file._is_cut = True
    file.write(b"whole\n")
    file.write(b"next\n")
    file.close()
    assert (tmp_path / "access.log").read_text() == "\nwhole\nnext\n"


@pytest.mark.parametrize(
    ("batch", "pieces"),
    [
        (b"", []),
        (b"a\n", [b"a\n"]),
        (b"a\nb\nc\n", [b"a\nb\n", b"c\n"]),
        (b"abcdefgh\ni\n", [b"abcdefgh\n", b"i\n"]),
        (b"a\nabcdefgh\ni\nj\n", [b"a\n", b"abcdefgh\n", b"i\nj\n"]),
        (b"abcdefgh", [b"abcdefgh"]),
    ],
)
def test_pipes_get_whole_lines(batch: bytes, pieces: list[bytes]) -> None:
    assert _pieces(batch, 5) == pieces


def test_standard_output_is_the_processs_own() -> None:
    script = """
import pathlib
from tests.access_log.test_log import add, log_to
log = log_to(pathlib.Path("/dev/stdout"))
add(log, 1, 2)
log.close()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n2\n"


def test_a_line_that_cannot_be_made_ends_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = log_to(tmp_path / "access.log")
    broken = finished()
    broken.request.query = None  # type: ignore[assignment]
    broken.request.headers = None  # type: ignore[assignment]
    log.add(broken)
    add(log, 1)
    log.close()
    assert "no line for" in caplog.records[0].getMessage()
    assert (tmp_path / "access.log").read_text() == "1\n"


def test_settings_open_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "nginx_config: {http: {access_log: a.log, access_log_format: '$status $nothing', access_log_buffer: 0}}"
    )
    settings = load_settings(config)
    log = AccessLog.open(settings.nginx_config.http, settings.access_log_path, Timers())
    assert log is not None
    assert "no such variable, logged as missing: nothing" in caplog.records[0].getMessage()
    log.add(finished())
    log.close()
    assert (tmp_path / "var/a.log").read_text() == "200 -\n"
    config.write_text("nginx_config: {http: {enable_access_log: false}}")
    off = load_settings(config)
    assert AccessLog.open(off.nginx_config.http, off.access_log_path, Timers()) is None
