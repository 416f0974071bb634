"""LISTEN on a connection of its own, and hand over what is said.

A notification is an optimisation, never correctness: whoever relies on one also looks for himself from time to time.
After every (re)connection listeners are told that they may have missed something.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable

Heard: TypeAlias = "Callable[[str | None], None]"
"""Called with a payload, or with None after a connection: something may have been missed. Must not block."""

LONGEST_BACKOFF: Final = 30.0

logger = logging.getLogger("squidmesh.listener")


class Listener:
    """A thread that listens to one channel.

    Args:
        connect: Opens a connection in autocommit mode; not through a pooler that shares sessions.
        channel: The channel's name.
        heard: Called for each notification, on the listener's thread.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], channel: str, heard: Heard) -> None:
        self._connect = connect
        self._channel = channel
        self._heard = heard
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="squidmesh-listener", daemon=True)
        self.connected = threading.Event()

    def start(self) -> None:
        """Begin to listen, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and close the connection. Stopping twice is allowed."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.write(self._wake_writer, b"x")
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _run(self) -> None:
        backoff = 0.1
        while not self._stopping.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                    self.connected.set()
                    backoff = 0.1
                    self._tell(None)
                    self._listen(connection)
            except psycopg.Error as error:
                logger.warning("lost the listening connection (%s); polling goes on, trying again", error)
            self.connected.clear()
            self._stopping.wait(backoff * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        """Hand over notifications until told to stop or the connection breaks."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for notification in connection.notifies(timeout=0):
                    self._tell(notification.payload)
                selector.select()

    def _tell(self, payload: str | None) -> None:
        try:
            self._heard(payload)
        except Exception:  # the top of a service loop: others listen, too
            logger.exception("notification %r could not be handled", payload)
