"""A gateway under changes, requests and kills for as long as one likes. `run.py` is what others use.

`book.py` is what is written down, `traffic.py` asks, `changes.py` changes, `chaos.py` kills, `census.py` counts what
processes hold. Chance is seeded; the machine's own timing is not, so a seed repeats the plan and not the run.
"""
