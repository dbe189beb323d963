"""Where a worker under load spends its time, by function: py-spy looks at a real worker while wrk loads it.

`self_us`: in the function itself (with --native, C code has names of its own; without, it counts to who called it);
`with_calls_us`: in it and in what it calls. Both are the share of samples times the CPU of a request, so the sum of
`self_us` is the CPU of a request; py-spy's own stops are in wall time, not in these shares. For the cost of our own
code without sockets: bench.request_path --profile.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.load_options import ending_cleanly
from bench.processes import cpu_s
from bench.report import progress, save, table
from bench.throughput.groups import SERVERS, Load
from bench.throughput.origin import running_origin
from bench.throughput.ours import PLUGINS
from bench.throughput.rounds import cpu_and_run
from bench.throughput.scene import Running, Scene
from tests.support.gateway import BIN


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.profile_worker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edge", choices=("h1", "asgi"), default="h1")
    parser.add_argument("--seconds", type=int, default=8, help="of samples (default 8)")
    parser.add_argument("--rate", type=int, default=400, help="samples a second (default 400)")
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--native", action="store_true", help="C functions, too: slower, fewer samples")
    parser.add_argument("--log", action="store_true", help="access log on")
    parser.add_argument("--plugins", choices=tuple(PLUGINS), default="none")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this needs wrk: apt-get install wrk")
    if not (BIN / "py-spy").exists():
        raise SystemExit("this needs py-spy: make .venv/.bench-installed")
    ending_cleanly()
    with tempfile.TemporaryDirectory() as directory, running_origin(Path(directory) / "origin") as origin:
        plugins = {arguments.plugins: PLUGINS[arguments.plugins]}
        scene = Scene(Path(directory), origin, plugins=plugins, logs_access=arguments.log)
        progress(f"starting {arguments.edge}")
        with SERVERS[arguments.edge].run(scene) as running:
            load = Load(arguments.plugins, f"/plugins/{arguments.plugins}", 32)
            stacks, us = _sampled(scene, running, load, arguments)
    own, whole = by_function(stacks)
    total = own.total()
    print(table([{"where": where, "self_us": count / total * us} for where, count in by_place(own).most_common(16)]))
    rows = [
        {
            "function": name,
            "self_us": count / total * us,
            "self_%": 100 * count / total,
            "with_calls_us": whole[name] / total * us,
        }
        for name, count in own.most_common(arguments.top)
    ]
    print(f"{us:.1f} us of CPU a request without the profiler, {total} samples")
    save("profile_worker", rows, edge=arguments.edge, us_per_request=us, samples=total, plugins=arguments.plugins)


def by_function(stacks: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """Samples by the innermost function, and by each function of a stack, once. Stacks as `outer;inner` (folded)."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, count in stacks.items():
        frames = stack.split(";")
        own[frames[-1]] += count
        for frame in set(frames):
            whole[frame] += count
    return own, whole


def by_place(own: Mapping[str, int]) -> Counter[str]:
    """Samples by file or library, packages of others as a whole."""
    places: Counter[str] = Counter()
    for name, count in own.items():
        place = name.rpartition("(")[2].partition(":")[0].rstrip(")")
        places[place if place.startswith(("gw/", "lib")) else place.split("/")[0]] += count
    return places


def _sampled(
    scene: Scene, running: Running, load: Load, arguments: argparse.Namespace
) -> tuple[dict[str, int], float]:
    """Folded stacks of one worker, and the CPU microseconds of a request measured before, without the profiler."""
    cpu_and_run(scene, running, load, 2)
    taken_s, run = cpu_and_run(scene, running, load, 3)
    progress(f"sampling for {arguments.seconds} s")
    output = scene.directory / "stacks.txt"
    thread = threading.Thread(target=cpu_and_run, args=(scene, running, load, arguments.seconds + 2))
    before_s = cpu_s(running.pids)
    thread.start()
    command = [str(BIN / "py-spy"), "record", "--pid", str(running.pids[0]), "--duration", str(arguments.seconds)]
    command += ["--rate", str(arguments.rate), "--format", "raw", "--function", "--output", str(output)]
    command += ["--native"] if arguments.native else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    thread.join()
    if done.returncode or cpu_s(running.pids) == before_s:
        raise SystemExit(f"py-spy found nothing (may it trace processes of others here?): {done.stderr}")
    return dict(_folded(output.read_text().splitlines())), taken_s / run.requests * 1e6


def _folded(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:
        stack, _, count = line.rpartition(" ")
        yield stack, int(count)


if __name__ == "__main__":
    main()
