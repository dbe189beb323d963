"""The example of docs/plugins/writing.md, taken from the page: installed, tested as it says, run in a whole gateway."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gw.pipeline.context import Context, Request, Response
from gw.plugins.api import Environment, Plugin
from tests.support.gateway import running_gateway
from tests.support.packages import install
from tests.support.upstream import running_upstream

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "plugins" / "writing.md"
# A file's name in a line of its own, and the block that follows; or the word `empty`.
FILE = re.compile(r"^`([\w./-]+)`:(?: (empty)\.$|\n\n```\w+\n(.*?)^```$)", re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    return {name: content for name, _, content in FILE.findall(PAGE.read_text())}


def installed(site: Path) -> dict[str, Any]:
    """Install what the page shows, as pip leaves it; what its pyproject.toml says."""
    shown = files()
    project: dict[str, Any] = tomllib.loads(shown["pyproject.toml"])
    built = project["tool"]["setuptools"]
    packages = built["packages"]
    globs = [f"{package}/{glob}" for package in packages for glob in built["package-data"][package]]
    taken = {
        name: content
        for name, content in shown.items()
        if (name.endswith(".py") and name.split("/")[0] in packages) or any(Path(name).match(glob) for glob in globs)
    }
    assert set(shown) - set(taken) == {"pyproject.toml", "tests/test_require_header.py"}
    install(site, project["project"]["name"], project["project"]["entry-points"]["gw.plugins"], taken)
    return project


def test_the_plugin_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with (
        running_upstream() as upstream,
        running_gateway(tmp_path / "gateway", {"plugins": ["require-header"]}) as gateway,
    ):
        nodes = {"nodes": {f"127.0.0.1:{upstream.port}": 1}}
        route = {"uri": "/*", "upstream": nodes, "plugins": {"require-header": {"header": "X-Tenant"}}}
        gateway.apply({"routes_1": route})
        refused = gateway.call("/a")
        assert (refused.status, refused.json()) == (400, {"error_msg": "X-Tenant is missing"})
        assert gateway.call("/a", headers={"x-tenant": "t"}).status == 200
        assert len(upstream.requests) == 1
        complaint = gateway.admin("PUT", "/routes/1", {**route, "plugins": {"require-header": {}}})
        assert complaint.status == 400
        said = complaint.json()["error_msg"]
        assert said in re.sub(r"\s+", " ", PAGE.read_text())


def test_its_test_passes(tmp_path: Path) -> None:
    site = tmp_path / "site"
    installed(site)
    test = tmp_path / "tests" / "test_require_header.py"
    test.parent.mkdir()
    test.write_text(files()["tests/test_require_header.py"])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{site}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_page_names_what_there_is() -> None:
    """Attributes and methods that the page promises: renamed, they are renamed there."""
    text = PAGE.read_text()
    spoken_of = {"ctx": Context, "ctx.request": Request, "ctx.response": Response, "self.env": Environment}
    for owner, cls in spoken_of.items():
        names = set(re.findall(rf"{re.escape(owner)}\.([a-z_]+)", text))
        for row in re.findall(rf"^\| `{re.escape(owner)}` \| (.*) \|$", text, re.MULTILINE):
            names |= set(re.findall(r"`([a-z_]+)(?:\([a-z_, ]*\))?`", row))
        assert names, owner
        known = set(dir(cls)) | set(cls.__annotations__) | set(getattr(cls, "__slots__", ())) | {"request"}
        assert names <= known, (owner, names - known)
    assert "only_reads_body" in dir(Plugin)
