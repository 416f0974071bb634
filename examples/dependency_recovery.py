"""A page is built from three sources at once. One of them may be down: the page goes out without what it would add.

By itself, on a Postgres of its own::

    python examples/dependency_recovery.py

It builds the page twice: once with all sources, and once while the reviews are out of order. Then the branch of the
reviews takes its error route, the step that would join it is skipped, and so is what follows from that one. The run
completes all the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from squidmesh import Constant, Retry, SquidMesh, Workflow
from squidmesh.embedded import EmbeddedPostgres, given_dsn

if TYPE_CHECKING:
    from squidmesh import Run


@dataclass
class Page:
    """What a run is started with."""

    article: str
    reviews_are_down: bool = False


dependency_recovery = Workflow("dependency_recovery", payload=Page)

# Three steps that wait for nothing: a run begins with all of them at once.


@dependency_recovery.step(start=True, output="price")
def load_price(article: str) -> int:
    return 10 * len(article)


@dependency_recovery.step(start=True, output="stock")
def load_stock(article: str) -> int:
    return len(article)


@dependency_recovery.step(start=True, output="reviews", retry=Retry(max_attempts=2, backoff=Constant(0.2)))
def load_reviews(article: str, *, reviews_are_down: bool) -> list[str]:
    if reviews_are_down:
        raise ConnectionError("the reviews do not answer")
    return [f"I like my {article}"]


# A join runs once all that it lists have ended well ...


@dependency_recovery.step(after=[load_price, load_stock], output="page")
def publish_page(article: str, price: int, stock: int) -> str:
    return f"{article} for {price} EUR, {stock} left"


# ... is skipped if one of them did not ...


@dependency_recovery.step(after=[publish_page, load_reviews], output="page_with_reviews")
def add_reviews(page: str, reviews: list[str]) -> str:
    return f"{page}; {', '.join(reviews)}"


# ... and being skipped is not ending well.


@dependency_recovery.step(after=[add_reviews], output="told")
def thank_reviewers(reviews: list[str]) -> int:
    return len(reviews)


@dependency_recovery.step(output="ticket")
def report_outage(article: str) -> str:
    return f"the reviews of {article} are missing"


# Without this route, the failure of one source would fail the run.
dependency_recovery.transition(load_reviews, on="error", to=report_outage)

mesh = SquidMesh(workflows=[dependency_recovery])


# -- all below is only for running it by itself ------------------------------------------------------------------


def tell(run: Run) -> None:
    """Print where each step of a run stands, and what its steps returned."""
    assert run.history is not None
    for step in run.history.steps:
        waits_for = f"after {', '.join(step.after)}" if step.after else ""
        print(f"  {step.step:16} {step.status:10} {waits_for}".rstrip())
    context: dict[str, Any] = run.context or {}
    print(f"{run.status}; the page: {context.get('page_with_reviews', context['page'])}")


def main(dsn: str) -> None:
    """Build the page twice, and print what became of each step."""
    with SquidMesh(dsn, workflows=[dependency_recovery]) as here:
        here.migrate()
        with here.worker():
            for page in (Page("kettle"), Page("teapot", reviews_are_down=True)):
                run = here.wait_for_run(here.start_run(dependency_recovery, page).id, timeout=60)
                print(f"{page.article}, the reviews are {'down' if page.reviews_are_down else 'up'}:")
                tell(here.inspect_run(run.id, include_history=True))


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
