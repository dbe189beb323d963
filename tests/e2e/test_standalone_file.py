"""A data plane that serves apisix.yaml or apisix.json: edits of every kind, and files that are no good."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway, request, running_gateway
from tests.support.upstream import Upstream, running_upstream
from tests.support.waiting import wait_until


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


def config(form: str = "yaml") -> dict[str, Any]:
    return {"deployment": {"role": "data_plane", "role_data_plane": {"config_provider": form}}}


def yaml_of(upstream: Upstream, *uris: str, more: str = "") -> str:
    """A file with a route per uri, which is its id as well, and one upstream for all."""
    routes = [f"  - {{id: {uri[1:]}, uri: {uri}, upstream_id: 1}}" for uri in uris]
    node = f'{{"127.0.0.1:{upstream.port}": 1}}'
    return "\n".join(["upstreams:", f"  - {{id: 1, nodes: {node}}}", "routes:", *routes, more, "#END"])


def write_over(path: Path, text: str) -> None:
    aside = path.with_name("aside")
    aside.write_text(text)
    os.rename(aside, path)


def problem_of(gateway: Gateway) -> str:
    return str(gateway.status()["agent"]["problem"])


def wait_problem(gateway: Gateway, part: str) -> None:
    wait_until(lambda: part in problem_of(gateway), what=f"the status to say {part!r}")


def test_edits_of_a_file_and_what_is_no_good(tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "apisix.yaml"
    path.write_text(yaml_of(upstream, "/a"))
    with running_gateway(tmp_path, config()) as gateway:
        gateway.wait_served("/a")
        # Nobody listens for the Admin API, and gw start says so; the control API answers.
        with pytest.raises(ConnectionRefusedError):
            request(gateway.admin_port, "GET", "/apisix/admin/routes")
        assert "does not listen" in gateway.output()
        assert gateway.convergence()["converged"]
        assert request(gateway.control_port, "GET", "/v1/route/a").json()["key"] == "/routes/a"

        write_over(path, yaml_of(upstream, "/a", "/renamed-over"))
        gateway.wait_served("/renamed-over")
        path.write_text(yaml_of(upstream, "/a", "/in-place"))
        gateway.wait_served("/in-place")
        gateway.wait_served("/renamed-over", 404)

        good = path.read_text()
        for text, part in (
            (good.removesuffix("#END"), "no #END on its last line"),
            (good.replace("upstreams:", "upstreams: [").removesuffix("#END") + "#END", "line "),
            (good.replace("routes:", "routes: {}\nroutes:"), "written twice"),
        ):
            path.write_text(text)
            wait_problem(gateway, part)
            gateway.wait_served("/in-place")
            assert part in gateway.output()
        path.unlink()
        wait_problem(gateway, "No such file")
        gateway.wait_served("/in-place")

        path.write_text(yaml_of(upstream, "/back"))
        gateway.wait_served("/back")
        wait_until(lambda: problem_of(gateway) == "", what="the problem to be over")


def test_a_bad_item_is_named_and_the_rest_is_served(tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "apisix.yaml"
    path.write_text(yaml_of(upstream, "/a", "/b"))
    with running_gateway(tmp_path, config()) as gateway:
        gateway.wait_served("/a")
        bad = "  - {id: a, uri: 7, upstream_id: 1}\n  - {id: new, nonsense: 1}\n  - 5"
        write_over(path, yaml_of(upstream, "/b", "/c", more=bad))
        gateway.wait_served("/c")
        rejected = {item["id"]: item for item in gateway.status()["agent"]["rejected"]}
        assert set(rejected) == {"a", "new", "arr_5"}
        assert "uri" in rejected["a"]["reason"]
        assert rejected["a"]["serves_last_good"] is True
        gateway.wait_served("/a")
        assert "routes/a" in gateway.gw("status").stdout


def test_ids_of_places_variables_and_links(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_PORT", str(upstream.port))
    monkeypatch.setenv("ROUTE_STATUS", "1")
    node = '"127.0.0.1:${{UPSTREAM_PORT}}": "${{WEIGHT:=1}}"'
    item = f"uri: /from-env, status: '${{{{ROUTE_STATUS}}}}', upstream: {{nodes: {{{node}}}}}"
    text = f"routes:\n  - {{{item}}}\n#END"
    for name, content in (("..1", text), ("..2", text.replace("/from-env", "/swapped"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "apisix.yaml").write_text(content)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "apisix.yaml").symlink_to("..data/apisix.yaml")
    with running_gateway(tmp_path, config()) as gateway:
        gateway.wait_served("/from-env")
        (tmp_path / "..new").symlink_to("..2")
        os.rename(tmp_path / "..new", tmp_path / "..data")
        gateway.wait_served("/swapped")
        gateway.wait_served("/from-env", 404)


def test_json(tmp_path: Path, upstream: Upstream) -> None:
    document = {
        "routes": [{"uri": "/json", "upstream_id": 1}],
        "upstreams": [{"id": 1, "nodes": {f"127.0.0.1:{upstream.port}": 1}}],
    }
    (tmp_path / "apisix.json").write_text(json.dumps(document))
    with running_gateway(tmp_path, config("json")) as gateway:
        gateway.wait_served("/json")
        (tmp_path / "apisix.json").write_text('{"routes": [')
        wait_problem(gateway, "invalid JSON")
        gateway.wait_served("/json")


def test_another_file_beside_an_admin_api_that_reads(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "other.yaml").write_text(yaml_of(upstream, "/a"))
    with running_gateway(tmp_path, {"gw": {"store": "yaml:///other.yaml"}}) as gateway:
        gateway.wait_served("/a")
        assert gateway.admin("GET", "/routes/a").json()["value"]["uri"] == "/a"
        assert gateway.admin("GET", "/routes").json()["total"] == 1
        reply = gateway.admin("PUT", "/routes/b", {"uri": "/b", "upstream_id": "1"})
        assert reply.status == 400
        assert "edit that file" in reply.json()["error_msg"]
        assert gateway.admin("GET", "/configs").status == 404


def test_the_last_good_file_outlives_agent_and_gateway(tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "apisix.yaml"
    path.write_text(yaml_of(upstream, "/a"))
    provider = {"deployment": {"role_traditional": {"config_provider": "yaml"}}, "apisix": {"enable_admin": False}}
    with running_gateway(tmp_path, provider) as gateway:
        gateway.wait_served("/a")
        path.write_text("broken: [")
        wait_problem(gateway, "no #END")
        version = gateway.status()["agent"]["version"]
        before = gateway.agent_pid()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: gateway.agent_pid() != before, what="another agent")
        wait_problem(gateway, "no #END")
        gateway.wait_served("/a")
        assert gateway.status()["agent"]["version"] == version
        wait_until(lambda: (tmp_path / "data" / f"last-good.{gateway.name}").exists(), what="the last good file")
        gateway.stop()
        assert gateway.left_in_shm() == []
        gateway.start()
        gateway.wait_served("/a")
        path.write_text(yaml_of(upstream, "/mended"))
        gateway.wait_served("/mended")


def test_one_route_of_10_000_costs_one_change(tmp_path: Path, upstream: Upstream) -> None:
    uris = [f"/r{number}" for number in range(10_000)]
    path = tmp_path / "apisix.yaml"
    path.write_text(yaml_of(upstream, *uris))
    with running_gateway(tmp_path, config()) as gateway:
        gateway.wait_served("/r9999")
        first = gateway.status()
        write_over(path, "# nothing but a comment\n" + yaml_of(upstream, *uris))
        write_over(path, yaml_of(upstream, *uris).replace("uri: /r5000,", "uri: /changed,"))
        gateway.wait_served("/changed")
        gateway.wait_served("/r5000", 404)
        second = gateway.status()
        assert second["agent"]["version"] == first["agent"]["version"] + 1
        assert {worker["rebuild_kind"] for worker in second["workers"]} == {"update"}
