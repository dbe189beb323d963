"""The modes by the names of `apisix.router.http`."""

from collections.abc import Callable
from typing import Any, Final

from gw.router.host_uri import HostUriRouter
from gw.router.index import RouterIndex
from gw.router.match import Fits
from gw.router.uri import UriRouter

_MAKERS: Final[dict[str, Callable[[Fits[Any]], RouterIndex[Any]]]] = {
    "radixtree_host_uri": HostUriRouter,
    "radixtree_uri": lambda fits: UriRouter(fits, with_parameters=False),
    "radixtree_uri_with_parameter": lambda fits: UriRouter(fits, with_parameters=True),
}
# The first one is the default.
MODES: Final = tuple(_MAKERS)


def _fits_all(target: Any, request: Any) -> bool:
    return True


def build_router(mode: str, fits: Fits[Any] = _fits_all) -> RouterIndex[Any]:
    """An empty index of a mode. `fits` is asked about routes whose key says that they are conditional.

    Raises ValueError for a mode there is not.
    """
    if mode not in _MAKERS:
        raise ValueError(f"no router {mode!r}; there are {', '.join(MODES)}")
    return _MAKERS[mode](fits)
