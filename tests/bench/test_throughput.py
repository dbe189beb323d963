"""What bench.throughput makes of wrk's words, of rounds that are missing, and of sampled stacks."""

from __future__ import annotations

import pytest

from bench.profile_worker import by_function
from bench.throughput.rounds import Measured, Round
from bench.throughput.wrk import LoadFailed, Run, parse_run

GOOD = """\
Running 1s test @ http://127.0.0.1:9080/
  1 threads and 32 connections
  2783 requests in 1.01s, 353.31KB read
Requests/sec:   2755.45
Transfer/sec:     11.20KB
"""


def test_a_good_run() -> None:
    assert parse_run(GOOD) == Run(2783, 2755.45)


@pytest.mark.parametrize(
    "shown",
    [
        GOOD + "  Non-2xx or 3xx responses: 3\n",
        GOOD.replace("Requests/sec", "  Socket errors: connect 0, read 16, write 0, timeout 0\nRequests/sec"),
        GOOD.replace("2783 requests", "0 requests"),
        "unable to connect to 127.0.0.1:1 Connection refused",
    ],
)
def test_a_run_that_measured_nothing(shown: str) -> None:
    with pytest.raises(LoadFailed):
        parse_run(shown)


def test_rounds_are_compared_where_both_are_there() -> None:
    nginx = Measured("proxy", "nginx", "down 1k", {0: Round(1.0, 100_000, 1.0), 2: Round(2.0, 100_000, 1.0)})
    ours = Measured("proxy", "h1", "down 1k", {0: Round(3.0, 100_000, 1.0), 1: Round(9.0, 100_000, 1.0)})
    nginx.reference = ours.reference = nginx
    assert ours.ratios() == pytest.approx([3.0])
    assert nginx.ratios() == pytest.approx([1.0, 1.0])
    assert ours.over_base_us() == []


def test_a_plugin_beside_none() -> None:
    none = Measured("plugins", "h1", "none", {0: Round(1.0, 100_000, 1.0)})
    plugin = Measured("plugins", "h1", "request-id", {0: Round(1.2, 100_000, 1.0)}, base=none)
    assert plugin.over_base_us() == pytest.approx([2.0])
    assert plugin.base_ratios() == pytest.approx([1.2])
    row = plugin.row()
    assert row["times_nginx"] is None
    assert row["tick_below_1%"]


def test_a_function_that_calls_itself_counts_once() -> None:
    own, whole = by_function({"run;walk;walk": 3, "run;send": 2})
    assert own == {"walk": 3, "send": 2}
    assert whole == {"run": 5, "walk": 3, "send": 2}
