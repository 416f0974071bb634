r"""A service that takes so many calls of each customer, and no more: limits, rates, and pauses when it says "not now".

By itself, on a Postgres of its own, with the service on the loopback interface::

    python examples/rate_limited_api.py
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from squidmesh import Exponential, Limit, Rate, Retry, SquidMesh, Workflow
from squidmesh.embedded import EmbeddedPostgres, given_dsn
from squidmesh.tools import http

if TYPE_CHECKING:
    from collections.abc import Generator

PAGES = 8
MOST = 2
"""Calls that the service takes at once of each customer."""

REFUSED = 3
"""Which call of the large customer is refused."""


@dataclass
class Page:
    """What a run is started with."""

    customer: str
    page: int
    service: str


rate_limited_api = Workflow("rate_limited_api", payload=Page)


@rate_limited_api.step(
    output="rows",
    limit=Limit(MOST, key="customer"),
    rate=Rate(50, per=1, key="customer", burst=10),
    # An answer 429 with a Retry-After pauses all calls for this customer until then: the error says so by itself.
    retry=Retry(max_attempts=5, backoff=Exponential(min=1, max=30)),
)
def fetch(customer: str, page: int, service: str) -> list[str]:
    rows: list[str] = http.get(service, params={"customer": customer, "page": page}, timeout=10).json()
    return rows


mesh = SquidMesh(workflows=[rate_limited_api])


# -- all below is only for running it by itself ------------------------------------------------------------------


class Service:
    """Remembers how it was called, and refuses one call of the large customer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at_work: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def begin(self, customer: str) -> bool:
        """A call has come; whether it is served."""
        with self.lock:
            self.calls[customer] += 1
            self.at_work[customer] += 1
            self.most[customer] = max(self.most[customer], self.at_work[customer])
            refused = customer == "large" and self.calls[customer] == REFUSED
            self.refused[customer] += refused
            return not refused

    def end(self, customer: str) -> None:
        """A call is about to be answered."""
        with self.lock:
            self.at_work[customer] -= 1


@contextmanager
def serving(service: Service) -> Generator[str]:
    """The address of the service while it is there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            customer, page = asked["customer"][0], asked["page"][0]
            served = service.begin(customer)
            threading.Event().wait(0.02)  # what takes the service its time
            body = f'["{customer}, row {page}"]'.encode() if served else b"slow down"
            service.end(customer)
            self.send_response(200 if served else 429)
            self.send_header("Content-Type", "application/json" if served else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            if not served:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/rows"
        finally:
            server.shutdown()
            thread.join()


def call(mesh: SquidMesh, address: str, service: Service) -> None:
    """Fetch all pages for two customers, one of whom is kept waiting by a person for a while."""
    small = "rate_limited_api/fetch:customer=small"
    mesh.meters.pause(small, seconds=3600)
    runs = [
        mesh.start_run(rate_limited_api, Page(customer, page, address))
        for page in range(PAGES)
        for customer in ("large", "small")
    ]
    with mesh.worker():
        for run in runs[::2]:
            mesh.wait_for_run(run.id, timeout=60)
        why = mesh.explain_run(runs[1].id)
        print(f"small, page 0: {why.reason}, {why.details['meter']}")
        (meter,) = mesh.meters.list(small)
        print(f"{meter.name}: {meter.held} of {meter.most} at work, {meter.waiting} waiting")
        mesh.meters.resume(small)
        for run in runs[1::2]:
            mesh.wait_for_run(run.id, timeout=60)
    for customer in ("large", "small"):
        most = "never more than two at once" if service.most[customer] <= MOST else f"{service.most[customer]} at once"
        print(f"{customer}: {service.calls[customer]} calls, {service.refused[customer]} refused, {most}")


def main(dsn: str) -> None:
    """Call the service while a worker is there."""
    service = Service()
    with serving(service) as address, SquidMesh(dsn, workflows=[rate_limited_api]) as here:
        here.migrate()
        call(here, address, service)


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
