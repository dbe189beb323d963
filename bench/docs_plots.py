"""Copy plots from bench/results to docs/plots, in few colours: small enough to be committed."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.report import RESULTS

PLOTS = Path(__file__).resolve().parent.parent / "docs" / "plots"
# Lines and their soft edges; a third of the bytes.
COLOURS = 128


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.docs_plots", description=__doc__)
    parser.add_argument("names", nargs="+", help="as `fleet propagation`")
    from PIL import Image

    PLOTS.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().names:
        path = PLOTS / f"{name}.png"
        Image.open(RESULTS / f"{name}.png").convert("RGB").quantize(COLOURS).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
