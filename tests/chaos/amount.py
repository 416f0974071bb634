"""How much chaos: a sample by default, all of it with ``SQUIDMESH_CHAOS=full``."""

from __future__ import annotations

import os

FULL = os.environ.get("SQUIDMESH_CHAOS") == "full"
