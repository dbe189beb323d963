"""schemathesis asks a running gateway everything that its own OpenAPI document allows, and much that it does not.

No answer may be a 5xx, of a status, content type or form that is not documented; what breaks the schema is refused;
nothing is had without the key. What is asked is the same in each run. The selections are what fits into a minute: the
cases of bodies grow with the schema (a route has 4,000), and table tests have those.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import ADMIN_KEY, Gateway, running_gateway

# A whole resource may be valid by its own schema and still name what is not there; and an APISIX client is told 400
# where RFC 9110 has 405 (DELETE of a collection), so that Allow names methods which the document does not.
EXCLUDED = "positive_data_acceptance,unsupported_method,allow_header_conformance"
SELECTIONS = {
    "parameters of all kinds": ["--phases=coverage", "--include-method=GET", "--include-method=DELETE"],
    "bodies of protos": ["--phases=coverage", "--include-tag=protos"],
    "schemas and metadata": ["--phases=coverage", "--include-tag=schemas", "--include-tag=plugin_metadata"],
    "resources as a whole": [
        "--phases=fuzzing",
        "--max-examples=1",
        "--include-operation-id-regex=^put_(consumer|credential|consumer_group|global_rule|plugin_config|service)$",
    ],
}
DEADLINE_S = 300


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("driven"), workers=1) as running:
        yield running


@pytest.mark.parametrize("selection", SELECTIONS)
def test_what_schemathesis_finds(gateway: Gateway, selection: str, tmp_path: Path) -> None:
    pids = [*gateway.worker_pids(), gateway.agent_pid()]
    (tmp_path / "schemathesis.toml").write_text("[phases.coverage]\nunexpected-methods = []\n")
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "--config-file=schemathesis.toml",
            "run",
            f"http://127.0.0.1:{gateway.admin_port}/apisix/admin/openapi.json",
            f"--header=X-API-KEY: {ADMIN_KEY}",
            "--generation-deterministic",
            "--checks=all",
            f"--exclude-checks={EXCLUDED}",
            "--suppress-health-check=all",
            "--no-shrink",
            "--no-color",
            "--warnings=off",
            *SELECTIONS[selection],
        ],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 generated" not in done.stdout
    # Nobody was harmed, and nobody was told so in the log either.
    assert [*gateway.worker_pids(), gateway.agent_pid()] == pids
    assert "not foreseen" not in gateway.output()
    assert ADMIN_KEY not in gateway.output()
