"""Values on the command line: what is read, and what those are told whose value cannot be read."""

from __future__ import annotations

import io
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from squidmesh.cli import values
from squidmesh.cli.exits import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0.5", 0.5), ("5s", 5), ("500ms", 0.5), ("2m", 120), ("1h30m", 5400), ("2d", 172800), ("1m1s", 61)],
)
def test_a_duration_is_seconds_or_numbers_with_units(text: str, seconds: float) -> None:
    assert values.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "5 s", "5x", "s", "1h30", "inf", "nan", "1e9"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="write 5, 5s, 500ms, 2m, 1h30m or 2d"):
        values.duration(text)


def test_an_instant_has_an_offset() -> None:
    assert values.instant("2026-03-01T09:00:00Z") == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert values.instant("2026-03-01T09:00+02:00") == datetime(2026, 3, 1, 9, tzinfo=timezone(timedelta(hours=2)))


def test_an_instant_without_an_offset_is_refused_with_two_that_have_one() -> None:
    with pytest.raises(ArgumentTypeError, match=r"write 2026-03-01T09:00Z, or 2026-03-01T09:00\+02:00"):
        values.instant("2026-03-01T09:00")


def test_what_is_no_instant_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="'tomorrow' is not an instant"):
        values.instant("tomorrow")


def test_a_duration_counts_back_from_now() -> None:
    before = datetime.now(UTC)
    found = values.instant_or_ago("2h")
    assert before - timedelta(hours=2) <= found <= datetime.now(UTC) - timedelta(hours=2)


def test_a_duration_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="before the calendar begins"):
        values.instant_or_ago("99999999d")


def test_what_is_neither_an_instant_nor_a_duration_is_told_of_both() -> None:
    with pytest.raises(ArgumentTypeError, match=r"'yesterday' is not an instant; write .*Z, or 2h for two hours ago"):
        values.instant_or_ago("yesterday")


def test_queues_have_names_and_concurrencies() -> None:
    assert values.queues("default:20, slow:2,mail") == {"default": 20, "slow": 2, "mail": 10}


@pytest.mark.parametrize("text", ["", "default:", "default:x", "a,,b", "a b", "default:-1"])
def test_what_is_no_list_of_queues_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="write default:20,slow:2"):
        values.queues(text)


def test_a_queue_given_twice_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="'a' is given twice"):
        values.queues("a:1,a:2")


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", ""])
def test_a_number_of_things_is_above_zero(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="not a whole number above 0"):
        values.positive(text)
    assert values.positive("17") == 17


class TestPayload:
    def test_there_may_be_none(self) -> None:
        assert values.payload_of(None, []) is None

    def test_assignments_are_texts_or_json(self) -> None:
        given = ["name=Ann", "times:=3", "tags:=[1, 2]", "empty=", "formula=a=b", "url=http://x/?a:=1"]
        assert values.payload_of(None, given) == {
            "name": "Ann",
            "times": 3,
            "tags": [1, 2],
            "empty": "",
            "formula": "a=b",
            "url": "http://x/?a:=1",
        }

    def test_assignments_are_laid_over_the_payload(self) -> None:
        assert values.payload_of('{"a": 1, "b": 2}', ["b:=3"]) == {"a": 1, "b": 3}

    def test_it_comes_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "payload.json").write_text('{"a": "ä"}', encoding="utf-8")
        assert values.payload_of(f"@{tmp_path / 'payload.json'}", []) == {"a": "ä"}

    def test_it_comes_from_stdin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}'))
        assert values.payload_of("-", []) == {"a": 1}

    @pytest.mark.parametrize(
        ("payload", "assignments", "said"),
        [
            ("{", [], "--payload is not JSON"),
            ('{"a": 1, "a": 2}', [], "key 'a' is given twice"),
            ("@/no/such/file", [], "cannot read the file"),
            ("[1]", ["a=1"], "must then be a JSON object"),
            (None, ["a"], "write key=text, or key:=json"),
            (None, ["=1"], "write key=text, or key:=json"),
            (None, ["a:=x"], "-p a:= is not JSON"),
            (None, ["a=1", "a:=2"], "-p a is given twice"),
        ],
    )
    def test_what_cannot_be_read_is_refused_with_the_reason(
        self, payload: str | None, assignments: list[str], said: str
    ) -> None:
        with pytest.raises(UsageError, match=said.replace("(", r"\(")):
            values.payload_of(payload, assignments)

    def test_the_keys_given_as_text_are_known(self) -> None:
        assert values.texts_among(["a=1", "b:=2", "c=x:=y"]) == ["a", "c"]


def test_who_does_it_is_a_text_or_an_object() -> None:
    assert values.actor_of(None) is None
    assert values.actor_of("@ann") == "@ann"
    assert values.actor_of(' {"id": 7}') == {"id": 7}
    with pytest.raises(UsageError, match="--actor is not JSON"):
        values.actor_of("{id: 7}")


def test_an_object_comes_from_the_line_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "it.json"
    file.write_text('{"a": 1}')
    assert values.object_of(None, "--output") is None
    assert values.object_of(f"@{file}", "--output") == values.object_of('{"a":1}', "--output") == {"a": 1}
    with pytest.raises(UsageError, match="--output must be a JSON object"):
        values.object_of("[1]", "--output")
