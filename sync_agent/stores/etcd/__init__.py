"""A store in etcd, over gRPC; also in what answers etcd's requests in its place (kine).

`rpc` is the one module that imports etcd3; `connection` owns endpoints, channels, tokens and deadlines; `watching` and
`keys` decide without I/O; `store` puts them together.
"""
