"""The records that users see: frozen values, read from the database, never written back.

Nothing here knows how it is stored. ``JSON`` is the one place where the package says "any JSON value".
"""

from __future__ import annotations

from typing import Any, TypeAlias

JSON: TypeAlias = Any
"""Any JSON value: ``None``, ``bool``, ``int``, ``float``, ``str``, a list or an object of these."""

JSONObject: TypeAlias = dict[str, Any]
"""A JSON object: text keys, JSON values."""
