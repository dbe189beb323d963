"""Configuration that comes as one document: a file that is watched, or what a client puts as a whole.

`yaml_text` and `document` make resources of bytes, `contents` holds them as a store that nobody writes key by key, and
`file_store` and `pushed_store` say where the document comes from.
"""
