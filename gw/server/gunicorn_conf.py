"""gunicorn's configuration, made from ours: `gunicorn -c python:gw.server.gunicorn_conf gw.app:app`.

The configuration file is the one that JITTERWAY_CONFIG names, else conf/config.yaml in the working directory. It is
read once, by the master; its workers, also those that replace others later, go by what was read.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from gw.errors import ConfigError
from gw.server.master import Master, gunicorn_settings
from gw.settings import Settings, load_settings

CONFIG_VARIABLE: Final = "JITTERWAY_CONFIG"
DEFAULT_CONFIG: Final = "conf/config.yaml"


def _load() -> Settings:
    try:
        return load_settings(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    except ConfigError as error:
        # gunicorn would print a traceback. The code is the agent's, too: trying again is of no use.
        print(error, file=sys.stderr)
        raise SystemExit(os.EX_CONFIG) from None


_settings = _load()
# gunicorn takes its settings from a module's names.
globals().update(gunicorn_settings(_settings))
globals().update(Master(_settings).hooks())
