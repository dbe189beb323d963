"""The access log: a line for each request, formatted at its end, written by a thread that may wait for the disk."""
