"""Calling the outside world from steps: the adapter contract. ``squidmesh.tools.http`` is the adapter for HTTP."""

from squidmesh.tools.tool import Adapter, ErrorKind, Result, ToolError, invoke

__all__ = ["Adapter", "ErrorKind", "Result", "ToolError", "invoke"]
