"""CPU per proxied request and requests per second, ours beside others: `python -m bench.throughput`."""
