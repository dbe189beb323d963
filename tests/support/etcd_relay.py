"""Between a store and a real etcd, in this process: a plain TCP relay, and a relay that behaves like kine.

kine (k3s-io/kine) answers etcd's requests from a SQL database, but only those Kubernetes sends. Its rules, read from
pkg/server (create.go, update.go, delete.go, kv.go, watch.go), are kept here in front of a real etcd.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from sync_agent.stores.etcd.rpc import Stubs, grpc, pb
from tests.support.etcd import Etcd


class TcpRelay:
    """Passes bytes on to `port`; `cut` drops every connection and refuses new ones, on the same port until reopened."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "TcpRelay":
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.cut()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def cut(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()
        while self._writers:
            await asyncio.sleep(0)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        pair = {writer, target_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, target_writer), self._pump(target_reader, writer))
        finally:
            for each in pair:
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()
            self._writers -= pair

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


class KineRelay:
    """etcd behind kine's rules. `refused` lists requests kine would not take; `cancel_watches` ends the open ones."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self.refused: list[str] = []
        self._cancel = asyncio.Event()

    async def __aenter__(self) -> "KineRelay":
        self._channel = grpc.aio.insecure_channel(self._etcd.endpoint.removeprefix("http://"))
        self._stubs = Stubs(self._channel)
        self._server = grpc.aio.server()
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        services: dict[str, dict[str, Any]] = {
            "KV": {
                "Range": unary(self._range, pb.RangeRequest.FromString, pb.RangeResponse.SerializeToString),
                "Txn": unary(self._txn, pb.TxnRequest.FromString, pb.TxnResponse.SerializeToString),
            },
            "Watch": {"Watch": stream(self._watch, pb.WatchRequest.FromString, pb.WatchResponse.SerializeToString)},
            "Lease": {
                "LeaseGrant": unary(
                    self._grant, pb.LeaseGrantRequest.FromString, pb.LeaseGrantResponse.SerializeToString
                )
            },
            "Maintenance": {
                "Status": unary(self._status, pb.StatusRequest.FromString, pb.StatusResponse.SerializeToString)
            },
        }
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(f"etcdserverpb.{name}", methods)
                for name, methods in services.items()
            ]
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"http://127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._server.stop(grace=None)
        await self._channel.close()

    def cancel_watches(self) -> None:
        self._cancel.set()

    async def _range(self, request: Any, context: Any) -> Any:
        unsupported = request.keys_only or request.serializable or request.sort_target or request.min_mod_revision
        await self._require(context, not unsupported, f"range {request}")
        return _without_cluster(await self._stubs.kv.Range(request))

    async def _txn(self, request: Any, context: Any) -> Any:
        await self._require(context, self._is_known(request), f"transaction {request}")
        answer = _without_cluster(await self._stubs.kv.Txn(request))
        if not answer.succeeded and request.success[0].HasField("request_delete_range"):
            # kine answers a deletion in the form of one, refused or not.
            [found] = answer.responses
            kvs = list(found.response_range.kvs)
            del answer.responses[:]
            answer.responses.add().response_delete_range.prev_kvs.extend(kvs)
        return answer

    @staticmethod
    def _is_known(request: Any) -> bool:
        """isCreate, isUpdate and isDelete with a comparison."""
        if len(request.compare) != 1 or len(request.success) != 1 or len(request.failure) != 1:
            return False
        compare, success, failure = request.compare[0], request.success[0], request.failure[0]
        put = success.request_put
        return (
            compare.target == pb.Compare.MOD
            and compare.result == pb.Compare.EQUAL
            and failure.HasField("request_range")
            and (success.HasField("request_put") or success.HasField("request_delete_range"))
            and not (put.prev_kv or put.ignore_value or put.ignore_lease)
        )

    async def _grant(self, request: Any, _context: Any) -> Any:
        return _without_cluster(await self._stubs.lease.LeaseGrant(request))

    async def _status(self, request: Any, _context: Any) -> Any:
        return _without_cluster(await self._stubs.maintenance.Status(request))

    async def _watch(self, requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        call = self._stubs.watch.Watch()
        await call.write(await anext(aiter(requests)))
        canceled = asyncio.ensure_future(self._cancel.wait())
        try:
            while True:
                reading = asyncio.ensure_future(call.read())
                await asyncio.wait({reading, canceled}, return_when=asyncio.FIRST_COMPLETED)
                if canceled.done():
                    reading.cancel()
                    yield pb.WatchResponse(canceled=True, cancel_reason="the database went away")
                    return
                response = _without_cluster(await reading)
                if response.created:
                    response.header.revision = 0
                yield response
        finally:
            canceled.cancel()
            call.cancel()

    async def _require(self, context: Any, holds: bool, what: str) -> None:
        if not holds:
            self.refused.append(what)
            await context.abort(grpc.StatusCode.UNKNOWN, f"unsupported {what}")


def _without_cluster(answer: Any) -> Any:
    answer.header.cluster_id = 0
    return answer
