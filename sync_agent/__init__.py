"""The sync agent: the one process of a host that reads the configuration store and publishes to shared memory."""
