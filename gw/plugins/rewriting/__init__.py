"""What proxy-rewrite and response-rewrite have in common: edits of headers, replacements with captures, bodies.

`header_edits` adds, sets and removes fields, `replacement` reads `$1` of a substitution, `target` makes what a request
asks its upstream for, `substitution` changes a body, `encodings` takes it out of its Content-Encoding.
"""
