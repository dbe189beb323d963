"""Which route answers a request: an index that is changed in place, one route at a time.

`index.py` is what others use, made by `build.py`; `match.py` holds the order in which routes are tried, and where it
is ours to choose. Below, a file per idea: `uri.py` and `host_uri.py` (the modes), `paths.py` (exact before prefix,
level by level), `prefixes.py` (longest prefix), `leaf.py` (routes on one path, told apart by host), `pattern.py` (how a
uri is read), `captures.py` (parameters and globs), `hosts.py` (host names). HTTP is not known here: strings in, a
match out.
"""

from gw.router.build import MODES, build_router
from gw.router.index import RouterIndex
from gw.router.match import Fits, Match

__all__ = ["MODES", "Fits", "Match", "RouterIndex", "build_router"]
