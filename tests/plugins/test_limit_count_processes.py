"""Several real processes limit together, as the workers of a host do; killing one gives nobody a request more."""

import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from gw.shm.segment import SHM_DIR
from tests.plugins.limiting import COUNT, REFUSED

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = sys.maxsize
KILLS = 8


@pytest.fixture
def directory():
    path = SHM_DIR / f"test-{uuid.uuid4().hex[:12]}.v2.state"
    yield path
    shutil.rmtree(path, ignore_errors=True)


def limiting(directory, requests):
    command = [sys.executable, "-m", "tests.plugins.limiting", str(directory), str(requests)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def passed(lines):
    """How many requests passed, of what a process told, whether or not it came to its end."""
    return sum(1 for line in lines if line.strip().isdecimal())


def passed_until_killed(directory):
    """As `passed`, of one killed in the midst of counting: it would go on for ever, told or refused."""
    with limiting(directory, ENDLESS) as process:
        lines = []
        while passed(lines) < 20 and f"{REFUSED}\n" not in lines:
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended by itself"
        process.kill()
        return passed([*lines, *process.stdout])


def test_the_limit_is_the_hosts_whatever_the_number_of_workers(directory):
    processes = [limiting(directory, COUNT) for _ in range(4)]
    counts = [passed(process.stdout) for process in processes]
    assert [process.wait() for process in processes] == [0] * 4
    assert sum(counts) == COUNT
    for process in processes:
        process.stdout.close()


def test_a_worker_killed_while_it_counts_changes_nothing_for_the_others(directory):
    told = sum(passed_until_killed(directory) for _ in range(KILLS))
    with limiting(directory, 2 * COUNT) as process:
        told += passed(process.stdout)
        assert process.wait() == 0
    # A killed one may have counted a request that it did not live to tell.
    assert COUNT - KILLS <= told <= COUNT


def test_a_worker_killed_while_it_is_refused_everything_gives_nobody_a_request_more(directory):
    """On a loaded host the first ones pass all that there is before they are killed: what else they tell counts not."""
    with limiting(directory, COUNT) as process:
        assert passed(process.stdout) == COUNT
    assert [passed_until_killed(directory) for _ in range(3)] == [0, 0, 0]
    with limiting(directory, COUNT) as process:
        assert passed(process.stdout) == 0
