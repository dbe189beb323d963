"""The agent as a whole: what is opened, in which order, and what is said about it."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import random
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from gw.clock import Clock
from gw.errors import ConfigError
from gw.schema import PluginSchemas, load_plugin_schemas
from gw.settings import AgentSettings
from gw.settings.agent_tree import AdminKey
from gw.shm import process
from gw.shm.cells import WorkerTable
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace, SegmentMissing, SegmentSpace
from gw.shm.writer import Publisher
from sync_agent.admin.keys import AdminKeys
from sync_agent.admin.operations import AdminLimits
from sync_agent.admin.server import AdminServer
from sync_agent.encryption.provision import load_protection
from sync_agent.intake import Intake
from sync_agent.last_good import LastGood
from sync_agent.machine import Machine
from sync_agent.outlet import Outlet
from sync_agent.runner import Runner
from sync_agent.stores import open_store

log = logging.getLogger(__name__)

# Refused resources told one by one; how many there are is always told.
MOST_REJECTIONS_SHOWN: Final = 100


class Agent:
    """Everything the agent's process runs. Made inside a running event loop; `run` once."""

    def __init__(self, settings: AgentSettings, admin_keys: Iterable[AdminKey], clock: Clock) -> None:
        """Open shared memory (taking over what a dead agent left) and the store's client; nothing is served yet.

        Raises ConfigError when another agent publishes under this name or two plugins have one name, SegmentError for
        shared memory that cannot be used, StoreError for a store that cannot even be addressed.
        """
        common = settings.settings
        self._settings = settings
        self._clock = clock
        plugins = _load_plugins(common.plugins)
        protection = load_protection(settings, plugins)
        with ExitStack() as undo:
            space = PosixSpace(common.gw.shm.owners, common.gw.shm.group)
            names = SegmentNames(common.gw.shm.name)
            _refuse_a_living_agent(SnapshotReader(space, names, clock), names)
            self._publisher = Publisher.attach(
                space, names, log_size_bytes=common.gw.shm.log_size_bytes, clock=clock
            )
            undo.callback(self._publisher.close)
            last_good = LastGood(common.gw.data_dir / f"last-good.{common.gw.shm.name}", plugins)
            unjudged = () if self._restore(last_good) else self._publisher.entries
            used_snapshots = partial(_used_snapshots, space, names)
            self._outlet = Outlet(self._publisher, used_snapshots, last_good, clock, unjudged=unjudged)
            self._store = open_store(settings, clock)
            undo.pop_all()
        self._intake = Intake(self._publisher.entries, common.gw.limits.resource_bytes, plugins, protection)
        self._machine = Machine(random.SystemRandom())
        self._runner = Runner(self._machine, self._store, self._intake, self._outlet)
        self._admin = AdminServer(
            common.socket_path,
            self._store,
            AdminKeys(admin_keys, required=common.deployment.admin.admin_key_required),
            AdminLimits(
                resource_bytes=common.gw.limits.resource_bytes,
                body_bytes=common.gw.limits.admin_body_bytes,
                document_bytes=common.gw.limits.document_bytes,
            ),
            self.status,
            common.gw.shm.group,
            [_uid(owner) for owner in common.gw.shm.owners],
            processed=lambda: self._publisher.revision,
            prefix=settings.etcd.prefix if settings.store_url == "etcd" else "/apisix",
            clock=clock,
            plugins=plugins,
            protection=protection,
            identities=self._intake.identities,
            allow_code=common.gw.allow_code,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then leave everything as the next agent wants to find it.

        Raises SocketError when the admin socket cannot be opened.
        """
        await self._admin.start()
        tasks = [
            asyncio.create_task(self._runner.run(), name="runner"),
            asyncio.create_task(self._outlet.run(), name="outlet"),
            asyncio.create_task(stopping.wait(), name="stopping"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            # First what the next start needs: operations that wait for a dead store may take all the time we are given.
            await self._outlet.close()
            await self._admin.close()
            await self._store.close()
            self._publisher.close()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def status(self) -> dict[str, Any]:
        """What `gw status` shows besides what shared memory says."""
        return {
            "pid": os.getpid(),
            "state": self._machine.state.value,
            "problem": self._outlet.problem or self._machine.problem,
            "store": self._settings.store_url,
            "resources": len(self._publisher.entries),
            "ignored_keys": self._intake.ignored_keys,
            "rejected_count": len(self._intake.rejections),
            "rejected": self._intake.report(MOST_REJECTIONS_SHOWN),
        }

    def _restore(self, last_good: LastGood) -> bool:
        """Serve the last good configuration where shared memory has none, or an older one; whether it does."""
        if self._publisher.recovered:
            log.info("taking over version %d from shared memory", self._publisher.version)
        kept = last_good.load(newer_than=self._publisher.version)
        if kept is not None:
            version = self._publisher.restore(kept.entries, kept.version, kept.revision)
            log.info("serving the last good configuration from %s as version %d", last_good.path, version)
        return kept is not None


def _load_plugins(enabled: Sequence[str]) -> PluginSchemas:
    plugins = load_plugin_schemas(enabled)
    for name, problem in plugins.problems.items():
        log.warning("plugin %s %s: what uses it answers 500, and the Admin API refuses it", name, problem)
    return plugins


def _refuse_a_living_agent(reader: SnapshotReader, names: SegmentNames) -> None:
    """The lock in run_dir tells agents of one configuration apart; this also those of two that share a name."""
    slot = reader.peek()
    if slot is not None and slot.agent_pid != os.getpid() and process.is_alive(slot.agent_pid, slot.agent_start_time):
        raise ConfigError(
            "gw.shm.name",
            f"a sync agent (pid {slot.agent_pid}) already publishes as {names.name!r} on this host; give this one "
            "another name",
        )
    reader.close()


def _used_snapshots(space: SegmentSpace, names: SegmentNames) -> set[int]:
    """Opened anew each time: the table is the master's, and comes and goes with it."""
    try:
        table = WorkerTable.open(space, names, writable=False)
    except SegmentMissing:
        return set()
    try:
        return table.used_snapshots()
    finally:
        table.close()


def _uid(owner: str) -> int:
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise ConfigError("gw.shm.owners", f"this host has no user {owner!r}") from None
