import os
import signal
import subprocess
import sys

from gw.shm.process import is_alive, start_time


def test_a_process_is_known_by_pid_and_start_time():
    started = start_time(os.getpid())
    assert started is not None
    assert is_alive(os.getpid(), started)
    assert not is_alive(os.getpid(), started + 1)
    assert not is_alive(0, 0)


def test_a_zombie_is_gone_and_a_reaped_process_too():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = start_time(child.pid)
        assert started is not None
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still there for its parent
        assert start_time(child.pid) is None
        child.wait()
    assert not is_alive(child.pid, started)
