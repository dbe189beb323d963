"""What gunicorn is told, and what it makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from gunicorn.config import Config

from gw.server.master import STUCK_S, Master, gunicorn_settings
from gw.settings import load_settings


def configured(directory: Path, **sections: Any) -> Config:
    """gunicorn's configuration from ours, set and validated by gunicorn itself."""
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(sections))
    settings = load_settings(path)
    config = Config()
    for name, value in {**gunicorn_settings(settings), **Master(settings).hooks()}.items():
        assert name in config.settings, name
        config.set(name, value)
    config.validate()
    return config


def test_everything_is_bound_and_nothing_else(tmp_path: Path):
    config = configured(
        tmp_path, apisix={"node_listen": [9080, {"ip": "::1", "port": 9443}]}, gw={"workers": 3}
    )
    assert config.address == [
        *(("0.0.0.0", 9080), ("::1", 9443), ("127.0.0.1", 9180), ("127.0.0.1", 9090), ("127.0.0.1", 7085)),
        ("127.0.0.1", 9091),
    ]
    assert config.workers == 3


def test_no_listener_for_what_is_switched_off(tmp_path: Path):
    metrics = {"prometheus": {"enable_export_server": False}}
    config = configured(tmp_path, apisix={"enable_admin": False, "enable_control": False}, plugin_attr=metrics)
    assert config.address == [("0.0.0.0", 9080), ("127.0.0.1", 7085)]


def test_nobody_is_believed_and_nothing_odd_is_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    config = configured(tmp_path, gw={"workers": 1})
    assert config.workers == 1
    assert config.forwarded_allow_ips == []
    assert config.forwarder_headers == []
    assert config.secure_scheme_headers == {}
    assert config.proxy_protocol == "off"
    assert config.http_protocols == ["h1"]
    assert config.control_socket_disable
    assert not config.preload_app
    for name in config.settings:
        if name.startswith("permit_"):
            assert getattr(config, name) is False, name


def test_limits_and_times(tmp_path: Path):
    config = configured(
        tmp_path,
        gw={"limits": {"request_line": 1000, "request_headers": 50, "request_header": 2000}, "log_level": "warning"},
        nginx_config={
            "worker_shutdown_timeout": "10s",
            "http": {"keepalive_timeout": "5500ms", "client_body_timeout": "90s", "underscores_in_headers": "off"},
        },
    )
    assert (config.limit_request_line, config.limit_request_fields, config.limit_request_field_size) == (1000, 50, 2000)
    assert config.graceful_timeout > 10, "the worker ends requests itself before the master kills it"
    assert config.keepalive == 6
    assert config.timeout == STUCK_S, "however long a client may take over its body"
    assert config.header_map == "drop"
    assert config.loglevel == "warning"


def test_header_names_with_underscores_pass_by_default_as_in_apisix(tmp_path: Path):
    assert configured(tmp_path).header_map == "dangerous"
