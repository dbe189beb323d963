"""Who may import whom: read from the sources, so that an arrow the wrong way fails here and not in a review."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Lower layers first. A room may import what stands in a lower layer, itself, and its own layer only where listed.
LAYERS = [
    {"gw", "gw.errors", "gw.clock", "gw.collector", "gw.parted"},
    {"gw.model", "gw.schema", "gw.expr", "gw.settings"},
    {"gw.shm", "gw.shared", "gw.router", "gw.balancer", "gw.health", "gw.tls", "gw.metrics"},
    {"gw.upstream"},
    {"gw.rebuild", "gw.pipeline", "gw.stream"},
    {"gw.plugins", "gw.access_log"},
    {"gw.admin", "gw.control"},
    {"gw.server", "gw.app"},
    {"gw.cli"},
]
SIDEWAYS = {
    ("gw.schema", "gw.model"),  # a schema's errors and keys are the model's
    ("gw.schema", "gw.expr"),  # what an expression is
    ("gw.shared", "gw.shm"),  # where shared memory lies, and who is a stranger there
    ("gw.metrics", "gw.shm"),  # the cells are the metrics: there is no second account of them
    ("gw.rebuild", "gw.pipeline"),  # what a route is compiled into
    ("gw.server", "gw.app"),
    ("gw.app", "gw.server"),
}
AGENT_MAY = LAYERS[0] | {"gw.model", "gw.schema", "gw.settings", "gw.shm", "sync_agent"}


def room(module: str) -> str:
    parts = module.split(".")
    if parts[0] != "gw":
        return parts[0]
    return ".".join(parts[:2])


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "gw":
                names = [alias.name for alias in node.names]
                found.update(f"gw.{name}" if (ROOT / "gw" / name).exists() else "gw" for name in names)
            else:
                found.add(node.module)
    return {name for name in found if name.split(".")[0] in ("gw", "sync_agent", "etcd3", "grpc")}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def layer_of(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", sources("gw"), ids=module_name)
def test_gateway_modules_import_downwards(path: Path):
    here = room(module_name(path))
    for imported in map(room, imports(path)):
        assert imported not in ("sync_agent", "etcd3", "grpc"), f"{module_name(path)} imports {imported}"
        if imported != here and (here, imported) not in SIDEWAYS:
            assert layer_of(imported) < layer_of(here), f"{module_name(path)} imports {imported}"


@pytest.mark.parametrize("path", sources("sync_agent"), ids=module_name)
def test_the_agent_stays_out_of_the_workers_rooms(path: Path):
    for imported in map(room, imports(path)):
        assert imported in AGENT_MAY | {"etcd3", "grpc"}, f"{module_name(path)} imports {imported}"


def test_etcd3_is_imported_in_one_module():
    users = [module_name(path) for path in sources("sync_agent") if "etcd3" in {room(name) for name in imports(path)}]
    assert len(users) == 1, users
