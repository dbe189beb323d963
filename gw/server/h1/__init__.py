"""Our own HTTP/1.1 protocol for proxied traffic: from the client's bytes to the upstream's socket in callbacks."""
