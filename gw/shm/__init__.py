"""Versioned configuration in POSIX shared memory: one writer (the agent), many readers. Knows bytes, not routes.

`names` and `segment` are about the files, `layout` about their bytes, `snapshot` and `log` about what stands in them;
`reader` is for workers, `writer` for the agent alone, `cells` for the workers' reports. See `docs/segment.md`.
Nothing is imported here, so that a process pays for what it uses.
"""
