"""What a process does to itself that does nothing but work. Never done to a host's process: it is the host's."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Final

YOUNG_OBJECTS: Final = 100_000
"""Objects made since the last look for cycles before the next one. The default, 700, is a look every few steps."""


_M_ARENA_MAX: Final = -8
"""The option of glibc's ``mallopt`` for how many heaps a process has."""


def dedicate_process() -> None:
    """Look for garbage cycles less often, and never among what was imported; keep all threads to one heap.

    A turn makes thousands of small objects that live until the next one and have no cycles: looking through them again
    and again takes a third of a busy worker's time. Memory is freed by reference counts as before.

    A text that one thread makes and another one drops leaves a hole in the first one's heap, and glibc gives each
    thread one of its own: with large results half of the memory is such holes. Python's threads do not run at once.
    """
    with suppress(OSError, AttributeError):  # another C library has no such option
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, *older)
