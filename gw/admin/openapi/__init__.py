"""The OpenAPI document of the Admin API, made from the table of kinds and the schemas, so that it cannot lag behind."""

from gw.admin.openapi.document import openapi_document

__all__ = ["openapi_document"]
