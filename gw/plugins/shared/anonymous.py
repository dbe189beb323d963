"""What auth plugins do with who shows nothing that counts: a 401 with a challenge, or the anonymous consumer.

Source: key-auth.lua and basic-auth.lua in apisix/plugins (3.x), RFC 9110 section 11.6.1.
"""

from __future__ import annotations

import logging
from typing import Final

from gw.plugins.api import Context, Plugin, Reply, attach, plugin_reply
from gw.plugins.shared.seldom import Seldom

log: Final = logging.getLogger(__name__)

# One line a second for what every request may meet.
_QUIET_S: Final = 1.0


def challenge(scheme: str, realm: str, message: str) -> Reply:
    """A 401 in APISIX's form."""
    quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
    return plugin_reply(401, {"message": message}, {"www-authenticate": f'{scheme} realm="{quoted}"'})


class Anonymous:
    """`anonymous_consumer` of one instance's configuration."""

    def __init__(self, plugin: Plugin, scheme: str, realm: str) -> None:
        self._plugin = (plugin.name, plugin.owner)
        self._consumers = plugin.env.consumers
        self._name: str | None = plugin.conf.get("anonymous_consumer")
        self._missing = challenge(scheme, realm, "Invalid user authorization")
        self._seldom = Seldom(plugin.env.clock, _QUIET_S)

    def let_in(self, ctx: Context, refusal: Reply) -> Reply | None:
        """Attach the anonymous consumer; the refusal, where none is configured, or it is not there."""
        if self._name is None:
            return refusal
        caller = self._consumers.by_name(self._name)
        if caller is None:
            if self._seldom():
                log.error("%s of %s: failed to get anonymous consumer %s", *self._plugin, self._name)
            return self._missing
        attach(ctx, caller)
        return None
