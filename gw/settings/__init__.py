"""Settings: each declared once, read from the user's file and the environment, frozen.

`tree` declares what all processes read, `agent_tree` what the agent alone may know; `kinds` and `network` are the types
of values, `load` puts them together, `reference` prints the default file. Workers use `load_settings` alone.
"""

from gw.settings.agent_tree import AdminKey, AgentSettings, EtcdSettings, EtcdTls, check_admin_key
from gw.settings.declare import Refused
from gw.settings.load import ConfigErrors, load_agent_settings, load_settings
from gw.settings.network import Listen, Network, admits
from gw.settings.tree import (
    ControlListen,
    LimitSettings,
    RebuildSettings,
    Settings,
    ShmSettings,
    StatusListen,
)

__all__ = [
    "AdminKey",
    "AgentSettings",
    "ConfigErrors",
    "ControlListen",
    "EtcdSettings",
    "EtcdTls",
    "LimitSettings",
    "Listen",
    "Network",
    "RebuildSettings",
    "Refused",
    "Settings",
    "ShmSettings",
    "StatusListen",
    "admits",
    "check_admin_key",
    "load_agent_settings",
    "load_settings",
]
