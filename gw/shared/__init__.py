"""State that all workers of a host share: counters, breakers. Knows bytes and numbers, no plugins and no routes.

`store` is what others use; `records` is the byte format, `files` where it lies and whom it is taken from.
"""
