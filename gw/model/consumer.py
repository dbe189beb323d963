"""Consumers and their groups: who sends requests. Built from dicts that `gw.schema.validate` has passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from gw.model.references import reference


@dataclass(frozen=True, slots=True)
class Consumer:
    """Its plugins run for its requests, in the place of those of the route; but what it has under the name of an auth
    plugin says how it is recognised (`gw.model.merge.consumer_layers`).
    """

    username: str
    group_id: str | None
    plugins: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, str]

    @classmethod
    def from_dict(cls, username: str, consumer: Mapping[str, Any]) -> Self:
        return cls(
            username=username,
            group_id=reference(consumer, "group_id"),
            plugins=consumer.get("plugins", {}),
            labels=consumer.get("labels", {}),
        )


@dataclass(frozen=True, slots=True)
class ConsumerGroup:
    """Plugins that several consumers share. A consumer's own count more."""

    id: str
    plugins: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, str]

    @classmethod
    def from_dict(cls, id: str, group: Mapping[str, Any]) -> Self:
        return cls(id=id, plugins=group["plugins"], labels=group.get("labels", {}))
