"""Counting requests against a quota: where the count is kept (this host, Redis), and over which window.

`quota` is what both sides see, `sliding` the arithmetic of the sliding window, `local` counts in gw.shared, `remote` in
Redis over `clients`, `delayed` in both: here at once, in Redis now and then.
"""
