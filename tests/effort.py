"""How hard the tests try: a little while one works, more in CI, as much as there is when one asks for it."""

from __future__ import annotations

import os
from typing import Final

EXAMPLES: Final = int(os.environ.get("SQUIDMESH_PROPERTY_EXAMPLES", "20"))
"""Examples of an ordinary property; those that are cheap or find much take a multiple."""

FULL_CHAOS: Final = os.environ.get("SQUIDMESH_CHAOS") == "full"
"""Whether to kill, cut and freeze in all the ways there are, instead of a sample of them."""
