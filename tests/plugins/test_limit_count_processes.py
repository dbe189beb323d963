"""Several real processes limit together, as the workers of a host do; killing one gives nobody a request more."""

import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from gw.shm.segment import SHM_DIR
from tests.plugins.limiting import COUNT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def directory():
    path = SHM_DIR / f"test-{uuid.uuid4().hex[:12]}.v1.state"
    yield path
    shutil.rmtree(path, ignore_errors=True)


def limiting(directory, requests):
    command = [sys.executable, "-m", "tests.plugins.limiting", str(directory), str(requests)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def passed(process):
    """How many requests of a process passed, whether or not it came to its end."""
    return sum(1 for line in process.stdout if line.strip().isdecimal())


def test_the_limit_is_the_hosts_whatever_the_number_of_workers(directory):
    processes = [limiting(directory, COUNT) for _ in range(4)]
    counts = [passed(process) for process in processes]
    assert [process.wait() for process in processes] == [0] * 4
    assert sum(counts) == COUNT
    for process in processes:
        process.stdout.close()


def test_a_worker_killed_while_it_counts_changes_nothing_for_the_others(directory):
    told = killed = 0
    for _ in range(8):
        with limiting(directory, COUNT) as process:
            told += sum(1 for _ in range(20) if process.stdout.readline())
            process.kill()
            told += passed(process)
            killed += 1
    with limiting(directory, 2 * COUNT) as process:
        told += passed(process)
        assert process.wait() == 0
    # A killed one may have counted a request that it did not live to tell.
    assert COUNT - killed <= told <= COUNT
