"""What stands after documents were put over one another: versions of kinds, indexes of items, what is kept on disk."""

from typing import Any

import pytest

from sync_agent.stores.standalone.document import InvalidDocument
from sync_agent.stores.standalone.versions import (
    check_versions,
    held_back,
    kinds_of_documents,
    nothing_yet,
    restored,
    succeed,
)

NOW_S = 1_700_000_000.5


def route(uri: str, index: int | None = None, id: str = "1") -> dict[str, Any]:
    return {"id": id, "uri": uri} if index is None else {"id": id, "uri": uri, "modifiedIndex": index}


def after(*bodies: dict[str, Any]) -> Any:
    standing = nothing_yet()
    for number, body in enumerate(bodies):
        standing = succeed(standing, body, str(number), NOW_S)
        again = restored(standing.document, held_back(standing))
        assert again == standing, "what is kept on disk is all there is to it"
    return standing


def served(standing: Any) -> dict[str, str]:
    return {key: value.raw.decode() for key, value in standing.values.items()}


def test_at_first_every_kind_is_at_version_0() -> None:
    assert nothing_yet().document == {f"{kind}_conf_version": 0 for kind in kinds_of_documents()}
    assert nothing_yet().digest is None


def test_a_document_without_versions_is_the_next_of_every_kind() -> None:
    standing = after({"routes": [route("/a")]}, {"routes": [route("/b")], "upstreams": []})
    versions = {name: value for name, value in standing.document.items() if name.endswith("_conf_version")}
    assert set(versions.values()) == {2}
    assert standing.document["routes"] == [route("/b")]
    assert "upstreams" not in standing.document
    assert (standing.digest, standing.document["X-Last-Modified"]) == ("1", int(NOW_S))


@pytest.mark.parametrize(
    ("version", "uri", "stands"),
    [(6, "/b", 6), (5, "/a", 5), (5.5, "/b", 5.5), (None, "/b", 6)],
)
def test_an_equal_version_leaves_a_kind_as_it_is(version: float | None, uri: str, stands: float) -> None:
    second: dict[str, Any] = {"routes": [route("/b")]} | ({} if version is None else {"routes_conf_version": version})
    standing = after({"routes": [route("/a")], "routes_conf_version": 5}, second)
    assert standing.document["routes_conf_version"] == stands
    assert standing.document["routes"] == [route(uri)]
    assert served(standing) == {"routes/1": f'{{"id":"1","uri":"{uri}"}}'}
    assert standing.document["upstreams_conf_version"] == 2


def test_a_lower_version_is_refused() -> None:
    with pytest.raises(InvalidDocument, match=r"routes_conf_version must be greater than or equal to \(5\)"):
        after({"routes_conf_version": 5}, {"routes_conf_version": -1})


@pytest.mark.parametrize("version", ["7", True, [], {}, float("inf"), float("nan"), 2**70])
def test_a_version_is_a_number(version: Any) -> None:
    with pytest.raises(InvalidDocument, match="routes_conf_version must be a number"):
        check_versions({"routes_conf_version": version})


@pytest.mark.parametrize(
    ("puts", "uri"),
    [
        ([("/a", 1), ("/b", 1)], "/a"),
        ([("/a", 1), ("/b", 2)], "/b"),
        ([("/a", 2), ("/b", 1)], "/b"),
        ([("/a", 1), ("/b", None)], "/b"),
        ([("/a", None), ("/b", 1)], "/b"),
        ([("/a", 1), ("/b", 1), ("/c", 1)], "/a"),
        ([("/a", 1), ("/b", 1), ("/c", 2)], "/c"),
    ],
)
def test_an_item_that_brings_its_old_index_is_left_as_it_was(puts: list[tuple[str, int | None]], uri: str) -> None:
    standing = after(*({"routes": [route(each, index)]} for each, index in puts))
    assert standing.document["routes"] == [route(*puts[-1])], "what is shown is what was put"
    assert served(standing) == {"routes/1": f'{{"id":"1","uri":"{uri}"}}'}


def test_an_item_that_was_away_is_new() -> None:
    standing = after({"routes": [route("/a", 1)]}, {}, {"routes": [route("/b", 1)]})
    assert served(standing) == {"routes/1": '{"id":"1","uri":"/b"}'}
