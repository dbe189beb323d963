"""Conditions over variables in APISIX's form (`vars`, `_meta.filter`), and regular expressions as they stand there.

Both are settled once, when configuration changes. This room knows no request: what reads a variable comes from outside.
"""

from gw.expr.compile import compile_expression
from gw.expr.engines import import_engines
from gw.expr.errors import ExpressionError, SearchTooLong
from gw.expr.networks import parse_network

__all__ = ["ExpressionError", "SearchTooLong", "compile_expression", "import_engines", "parse_network"]
