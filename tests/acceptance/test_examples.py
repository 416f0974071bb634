"""Every example runs by itself, says what its first lines promise, and leaves only runs that ended as they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.verification import smoke

if TYPE_CHECKING:
    from tests.conftest import TestServer

SAID = {
    "dependency_recovery": [
        "teapot, the reviews are down:",
        "load_reviews     failed",
        "publish_page     completed  after load_price, load_stock",
        "add_reviews      skipped    after publish_page, load_reviews",
        "thank_reviewers  skipped    after add_reviews",
        "report_outage    completed",
        "completed; the page: teapot for 60 EUR, 6 left",
    ],
    "manual_approval": [
        "this actor has approved step 'two_managers'",
        "voted     two_managers  ann: mine broke, too",
        "approved  two_managers  bob",
        "resumed   payday        cashier",
        "chairs: completed; 900 EUR, approved",
        "rejected  two_managers  ann: we do not have a harbour",
        "yacht: completed; no money for yacht: we do not have a harbour",
        "pencils: completed; 9 EUR, timeout",
    ],
    "rate_limited_api": [
        "small, page 0: key_paused, rate_limited_api/fetch:customer=small",
        "rate_limited_api/fetch:customer=small: 0 of 2 at work, 8 waiting",
        "large: 9 calls, 1 refused, never more than two at once",
        "small: 8 calls, 0 refused, never more than two at once",
    ],
    "recover": [
        "it fails: failed, no rate for DKK",
        "retried in place: completed, May: 110.40 EUR",
        "add_up    step    failed, completed",
        "(send), which a replay would run again",
        "replayed from the middle: completed, May: 204.00 EUR",
        "download  copied  completed",
    ],
    "saga_checkout": [
        "completed: reserve completed, charge completed, ship completed",
        "refunded 199.00 EUR",
        "put back a telescope, because no carrier goes there",
        "failed: reserve compensated, charge compensated, ship failed",
        "199.00 EUR under the key charge:1\n",
        "199.00 EUR under the key charge:1\n",
        "-199.00 EUR under the key charge:1:compensation",
        "2 of 3 telescopes are left",
    ],
    "signals": [
        "cents: must be an int, not text",
        "completed: early is delivered for 19.00 EUR; signals: hook-1",
        "completed: waiting is delivered for 7.00 EUR; signals: hook-3",
        "completed: twice is delivered for 25.00 EUR; signals: hook-2\n",
        "completed: a reminder of the invoice of never is sent; signals: none",
    ],
}
"""Parts of what examples print, in order."""


@pytest.mark.parametrize("name", list(SAID))
def test_an_example_does_what_it_says(name: str, postgres: TestServer) -> None:
    rest = smoke.run_one(name, postgres.dsn)
    for part in SAID[name]:
        assert part in rest, f"{part!r} is not in, or not in this place of\n{rest}"
        rest = rest.partition(part)[2]


def test_a_download_that_takes_an_hour_is_done_once(postgres: TestServer) -> None:
    assert smoke.run_one("recover", postgres.dsn).count("downloading") == 1


def test_every_example_has_an_expected_end() -> None:
    assert set(smoke.found()) <= smoke.EXPECTED.keys()


def test_an_example_that_ends_otherwise_is_noticed(postgres: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "EXPECTED", {"recover": {"completed": 1, "failed": 1}})
    with pytest.raises(AssertionError, match="ended as"):
        smoke.run_one("recover", postgres.dsn)
