"""What a family of plugins has in common: `batches` waits and sends, `log_entry` says what is logged, `batch_logger` is
what those that send logs begin from, `seldom` keeps the worker's own log short.
"""
