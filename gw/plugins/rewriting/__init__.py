"""What proxy-rewrite and response-rewrite have in common: edits of headers, paths, bodies.

`header_edits` adds, sets and removes fields, `target` makes what a request asks its upstream for, `substitution`
changes a body, `encodings` takes it out of its Content-Encoding.
"""
