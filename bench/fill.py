"""Fills a gateway's embedded store before the gateway starts: 100,000 routes in seconds.

Through the view that other programs write through, all in one transaction: one write to the disk instead of one each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sync_agent.stores.sql.sqlite import SqliteDatabase


def fill_store(data_dir: Path, resources: Iterable[tuple[str, dict[str, Any]]]) -> int:
    """Put resources, by key (`routes/1`), into `<data_dir>/config.db`; how many there were."""
    database = SqliteDatabase(data_dir / "config.db")
    connection, _ = database.opened()
    count = 0
    try:
        connection.execute("BEGIN IMMEDIATE")
        for key, body in resources:
            connection.execute("INSERT INTO config (key, value) VALUES (?, ?)", (key, json.dumps(body)))
            count += 1
        connection.execute("COMMIT")
    finally:
        database.close()
    return count
