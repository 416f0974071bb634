"""The demo's payment gateway: a real HTTP server on loopback that is out of order for its first requests."""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Gateway:
    """Answers ``GET /checks/<id>``; a context manager that starts and stops it.

    Args:
        refusals: How many requests it refuses before it answers.
    """

    def __init__(self, refusals: int) -> None:
        self.requests = 0
        self.refusals = refusals
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="demo-gateway", daemon=True)

    @property
    def url(self) -> str:
        """Where a check is asked for."""
        return f"http://127.0.0.1:{self._server.server_port}/checks"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gateway.requests += 1
                if gateway.requests <= gateway.refusals:
                    self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "maintenance"})
                else:
                    self._answer(HTTPStatus.OK, {"state": "settled"})

            def _answer(self, status: HTTPStatus, body: dict[str, str]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Say nothing: the demo tells the story."""

        return Handler
