from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gw.clock import SystemClock
from gw.health.board import Board
from gw.shared.store import SharedStore
from gw.shm.segment import SHM_DIR
from tests.health.support import HandClock

SIZE_BYTES = 4 << 20


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place of our own in the real /dev/shm; nothing of it is left behind."""
    path = SHM_DIR / f"test-{uuid.uuid4().hex[:12]}.v2.state"
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(directory: Path, clock: HandClock) -> Iterator[SharedStore]:
    """One whose entries expire by the clock that the test moves."""
    store = SharedStore.open(directory, SIZE_BYTES, clock)
    yield store
    store.close()


@pytest.fixture
def board(store: SharedStore, clock: HandClock) -> Board:
    return Board(store, clock)


@pytest.fixture
def live_board(directory: Path) -> Iterator[Board]:
    """One by the machine's clock, for tests with sockets and processes."""
    store = SharedStore.open(directory, SIZE_BYTES, SystemClock())
    yield Board(store, SystemClock())
    store.close()
