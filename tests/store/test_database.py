"""The two drivers: what is one transaction, what is one round trip, and what a caller's connection must allow."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh.errors import CommitUnknown, ConfigurationError, ConnectionUnusable
from squidmesh.store.database import drive
from squidmesh.store.runs import read_definitions, read_run, register_definition, start_runs
from squidmesh.store.statements import Batch, Flow, Statement, ask, check_schema_name, sql_of
from tests.proxy import Proxy
from tests.store.drivers import AsyncDriver, Driver, Host, SyncDriver
from tests.store.kit import CHANNEL, SCHEMA, Session, new_runs, start
from tests.waiting import TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.store.conftest import Connect


@pytest.fixture(params=[SyncDriver, AsyncDriver])
def open_driver(request: pytest.FixtureRequest, connect: Connect) -> Iterator[Callable[[str], Driver]]:
    """Opens drivers; every test that asks for one runs with the sync and with the async one."""
    with ExitStack() as undo:

        def opened(dsn: str) -> Driver:
            driver: Driver = request.param(dsn)
            undo.callback(driver.close)
            return driver

        yield opened


@pytest.fixture
def driver(open_driver: Callable[[str], Driver], store_dsn: str) -> Driver:
    return open_driver(store_dsn)


@pytest.fixture
def open_host(driver: Driver) -> Iterator[Callable[..., Host]]:
    with ExitStack() as undo:

        def opened(**how: bool) -> Host:
            host = driver.host(**how)
            undo.callback(host.close)
            return host

        yield opened


def write(name: str) -> Statement[None]:
    """A statement that writes one row."""
    return register_definition(name, "orders", {"name": name})


def fail() -> Statement[Any]:
    """A statement that the database refuses."""
    return Statement("read_run", {"id": "not an id"}, list)


def written(store: Session) -> list[str]:
    return [name for (name,) in store.rows("SELECT fingerprint FROM squidmesh.definitions ORDER BY fingerprint")]


# -- a flow is a transaction -----------------------------------------------------------------------------------------


def test_a_flow_of_several_batches_is_one_transaction(driver: Driver, store: Session) -> None:
    def flow() -> Flow[str]:
        yield Batch((write("a"),))
        assert written(store) == []
        yield Batch((write("b"), write("c")))
        assert written(store) == []
        yield Batch((write("d"),), last=True)
        assert written(store) == ["a", "b", "c", "d"]
        return "done"

    assert driver.run(flow()) == "done"


def test_a_flow_gets_the_results_of_its_statements_in_order(driver: Driver) -> None:
    def flow() -> Flow[list[Any]]:
        yield Batch((write("a"), write("b")))
        found = yield Batch((read_definitions(["a"]), read_definitions(["b"])), last=True)
        one = yield from ask(read_definitions(["a", "b"]))
        return [*found, one]

    a, b = {"a": {"name": "a"}}, {"b": {"name": "b"}}
    assert driver.run(flow()) == [a, b, a | b]


def test_a_flow_that_ends_early_is_committed(driver: Driver, store: Session) -> None:
    def flow() -> Flow[None]:
        yield Batch((write("a"),))

    driver.run(flow())
    assert written(store) == ["a"]
    assert driver.run(read_definitions(["a"])) == {"a": {"name": "a"}}


def test_an_error_in_a_flow_undoes_all_of_it(driver: Driver, store: Session) -> None:
    def flow() -> Flow[None]:
        yield Batch((write("a"), write("b")))
        raise LookupError("the flow itself")

    with pytest.raises(LookupError, match="the flow itself"):
        driver.run(flow())
    assert written(store) == []
    driver.run(write("next"))
    assert written(store) == ["next"]


@pytest.mark.parametrize("batches", [1, 2])
def test_an_error_of_the_database_undoes_all_of_a_flow(driver: Driver, store: Session, batches: int) -> None:
    """In the first batch, together with what it begins, or in a later one, together with what it commits."""

    def flow() -> Flow[None]:
        if batches > 1:
            yield Batch((write("a"),))
        yield Batch((write("b"), fail(), write("c")), last=True)

    with pytest.raises(psycopg.DataError):
        driver.run(flow())
    assert written(store) == []
    driver.run(write("next"))
    assert written(store) == ["next"]


@pytest.mark.parametrize("ends", ["with a last batch", "early"])
def test_what_is_sent_ahead_belongs_to_the_flows_transaction(driver: Driver, store: Session, ends: str) -> None:
    def flow() -> Flow[list[Any]]:
        assert (yield Batch((write("a"), read_definitions(["a"])), ahead=True)) == []
        assert (yield Batch((write("b"),), ahead=True)) == []
        found = yield Batch((read_definitions(["a", "b"]),))
        assert written(store) == []
        yield Batch((write("c"),), ahead=True)
        if ends == "with a last batch":
            yield Batch((write("d"),), last=True)
        return found

    assert driver.run(flow()) == [{"a": {"name": "a"}, "b": {"name": "b"}}]
    assert written(store) == ["a", "b", "c", *(["d"] if ends == "with a last batch" else [])]


@pytest.mark.parametrize(
    "fault", ["sent ahead", "sent ahead of more", "sent ahead of the end", "waited for", "in the flow"]
)
def test_an_error_undoes_what_was_sent_ahead(driver: Driver, store: Session, fault: str) -> None:
    def flow() -> Flow[None]:
        yield Batch((write("a"),), ahead=True)
        if fault == "in the flow":
            raise LookupError("the flow itself")
        if fault.startswith("sent ahead"):
            yield Batch((fail(), write("b")), ahead=True)
        if fault == "sent ahead of the end":
            return
        if fault == "sent ahead of more":
            yield Batch((write("c"), write("d")), ahead=True)
        yield Batch((fail() if fault == "waited for" else write("e"), write("f")), last=True)

    with pytest.raises(LookupError if fault == "in the flow" else psycopg.DataError):
        driver.run(flow())
    assert written(store) == []
    driver.run(write("next"))
    assert written(store) == ["next"]


def test_an_error_that_comes_with_the_end_leaves_no_transaction_behind(store_dsn: str, store: Session) -> None:
    """The worker's connections come from no pool that would clean them up."""

    def flow() -> Flow[None]:
        yield Batch((write("a"), fail()), ahead=True)

    with psycopg.connect(store_dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.DataError):
            drive(connection, flow(), SCHEMA)
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    assert written(store) == []


def test_a_flow_may_go_without_the_database(driver: Driver) -> None:
    def flow() -> Flow[int]:
        yield from ()
        return 7

    assert driver.run(flow()) == 7


# -- round trips -----------------------------------------------------------------------------------------------------


def test_a_batch_is_one_round_trip_and_a_statement_alone_needs_no_transaction(
    open_driver: Callable[[str], Driver], store_dsn: str
) -> None:
    waits: list[bytes] = []

    def count(message: bytes) -> bool:
        """A client waits for the server after a Sync, or a simple query."""
        waits.extend([message] if message[:1] in (b"S", b"Q") else [])
        return False

    def flow(sizes: list[int]) -> Flow[None]:
        for number, size in enumerate(sizes, start=1):
            yield Batch((read_definitions(["a"]),) * size, last=number == len(sizes))

    with Proxy(store_dsn) as proxy:
        driver = open_driver(proxy.dsn)
        driver.run(write("a"))
        proxy.cut_when(count)
        for sizes, expected in (([1], 1), ([2], 1), ([5, 1], 2), ([1, 1, 9], 3)):
            waits.clear()
            driver.run(flow(sizes))
            assert len(waits) == expected, sizes


def test_what_is_sent_ahead_is_on_its_way_before_the_flow_goes_on_and_needs_no_round_trip(
    store_dsn: str, store: Session
) -> None:
    """Of the sync driver: the async one waits for it, and nobody is the worse for it."""
    seen: list[bytes] = []

    def note(message: bytes) -> bool:
        seen.append(message)
        return False

    def flow() -> Flow[None]:
        for _ in range(3):
            seen.clear()
            yield Batch((write("a"),), ahead=True)
            until(lambda: any(b"INSERT INTO" in message for message in seen), what="the statement at the server's")
            assert not [message for message in seen if message[:1] == b"S"]
        seen.clear()
        yield Batch((write("b"),), last=True)

    with Proxy(store_dsn) as proxy, ExitStack() as undo:
        driver = SyncDriver(proxy.dsn)
        undo.callback(driver.close)
        driver.run(write("first"))
        proxy.cut_when(note)
        driver.run(flow())
    assert len([message for message in seen if message[:1] == b"S"]) == 1
    assert written(store) == ["a", "b", "first"]


# -- taking part in a caller's transaction ---------------------------------------------------------------------------


def two_writes() -> Flow[str]:
    """A flow that the drivers would run in a transaction of its own."""
    yield Batch((write("a"),))
    yield Batch((write("b"),), last=True)
    return "done"


def test_a_host_decides_when_it_is_committed(open_host: Callable[..., Host], store: Session) -> None:
    host = open_host()
    assert host.run(two_writes()) == "done"
    assert (written(store), host.state()) == ([], "INTRANS")
    host.execute("COMMIT")
    assert written(store) == ["a", "b"]


def test_nothing_is_on_its_way_when_a_flow_within_somebody_elses_transaction_has_ended(
    store_dsn: str, store: Session
) -> None:
    def flow() -> Flow[None]:
        yield Batch((write("a"),), ahead=True)

    with psycopg.connect(store_dsn) as connection:
        drive(connection, flow(), SCHEMA, own_transaction=False)
        assert connection.info.pipeline_status is psycopg.pq.PipelineStatus.OFF
        assert written(store) == []
    assert written(store) == ["a"]


def test_a_host_need_not_wait_for_what_is_sent_ahead_either(open_host: Callable[..., Host], store: Session) -> None:
    for autocommit in (False, True):
        host = open_host(autocommit=autocommit)
        host.run(sends_ahead())
        if not autocommit:
            host.execute("ROLLBACK")
        assert written(store) == (["a", "b"] if autocommit else [])


def test_a_host_may_roll_back(open_host: Callable[..., Host], store: Session) -> None:
    host = open_host()
    host.run(write("a"))
    host.execute("ROLLBACK")
    assert written(store) == []


def test_a_host_may_undo_to_a_savepoint(open_host: Callable[..., Host], store: Session) -> None:
    host = open_host(autocommit=True)
    host.execute("BEGIN")
    host.run(write("kept"))
    host.execute("SAVEPOINT here")
    host.run(two_writes())
    host.execute("ROLLBACK TO here")
    host.execute("COMMIT")
    assert written(store) == ["kept"]


def test_an_error_of_ours_leaves_the_hosts_transaction_to_the_host(
    open_host: Callable[..., Host], store: Session
) -> None:
    def flow() -> Flow[None]:
        yield Batch((write("a"),))
        raise LookupError

    host = open_host()
    host.run(write("before"))
    with pytest.raises(LookupError):
        host.run(flow())
    assert host.state() == "INTRANS"
    host.execute("COMMIT")
    assert written(store) == ["a", "before"]


def test_an_autocommit_host_gets_our_transaction(open_host: Callable[..., Host], store: Session) -> None:
    host = open_host(autocommit=True)
    assert host.run(two_writes()) == "done"
    assert (written(store), host.state()) == (["a", "b"], "IDLE")

    def failing() -> Flow[None]:
        yield Batch((write("c"),))
        yield Batch((write("d"), fail()), last=True)

    with pytest.raises(psycopg.DataError):
        host.run(failing())
    assert (written(store), host.state()) == (["a", "b"], "IDLE")


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_host_may_have_changed_its_rows_cursors_and_json(
    open_host: Callable[..., Host], store: Session, autocommit: bool
) -> None:
    (run_id,) = start(store, payloads=['{"order": 1}'])
    expected = store.run(read_run(run_id))
    host = open_host(autocommit=autocommit, odd=True)

    assert host.run(read_run(run_id)) == expected
    created = host.run(start_runs(new_runs(2), CHANNEL, always_notify=True))

    assert expected is not None
    assert created > expected.created_at


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        ("SELECT 1/0", "has failed; roll it back first"),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "'repeatable read'; squidmesh needs READ COMMITTED"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "'serializable'; squidmesh needs READ COMMITTED"),
    ],
)
def test_a_transaction_that_cannot_take_part(open_host: Callable[..., Host], prepare: str, said: str) -> None:
    host = open_host()
    try:
        host.execute(prepare)
    except psycopg.errors.DivisionByZero:
        assert host.state() == "INERROR"
    with pytest.raises(ConnectionUnusable, match=said):
        host.run(write("a"))
    host.execute("ROLLBACK")
    host.run(write("a"))


def test_a_closed_connection_cannot_take_part(open_host: Callable[..., Host]) -> None:
    host = open_host()
    host.close()
    with pytest.raises(ConnectionUnusable, match="is closed"):
        host.run(write("a"))


def test_a_connection_in_pipeline_mode_cannot_take_part(open_host: Callable[..., Host], store: Session) -> None:
    host = open_host(autocommit=True)
    with pytest.raises(ConnectionUnusable, match="leave the pipeline first"):
        host.run_in_pipeline(write("a"))
    host.run(write("b"))
    assert written(store) == ["b"]


def test_an_autocommit_host_that_is_isolated_higher_is_left_as_it_was(open_host: Callable[..., Host]) -> None:
    host = open_host(autocommit=True)
    host.execute("SET default_transaction_isolation = 'serializable'")
    with pytest.raises(ConnectionUnusable, match="serializable"):
        host.run(two_writes())
    assert host.state() == "IDLE"


# -- a commit whose answer is lost -----------------------------------------------------------------------------------


def is_commit(message: bytes) -> bool:
    return b"COMMIT\0" in message


@pytest.fixture
def proxy(store_dsn: str) -> Iterator[Proxy]:
    with Proxy(store_dsn) as proxy:
        yield proxy


def ends_early() -> Flow[None]:
    """Its commit travels alone."""
    yield Batch((write("a"), write("b")))


def sends_ahead() -> Flow[None]:
    yield Batch((write("a"),), ahead=True)
    yield Batch((write("b"),), last=True)


@pytest.mark.parametrize("flow", [two_writes, ends_early, sends_ahead])
@pytest.mark.parametrize("arrives", [True, False])
def test_a_commit_whose_answer_was_lost_is_an_unknown_one(
    open_driver: Callable[[str], Driver], proxy: Proxy, store: Session, flow: Callable[[], Flow[Any]], arrives: bool
) -> None:
    """The caller cannot know which of the two it was, and is told so; then the pool has a new connection."""
    driver = open_driver(proxy.dsn)
    done = proxy.cut_when(is_commit, drop_reply=arrives)

    with pytest.raises(CommitUnknown):
        driver.run(flow())

    assert done.wait(TIMEOUT)
    assert written(store) == (["a", "b"] if arrives else [])
    driver.run(write("c"))
    assert "c" in written(store)


def test_a_start_that_is_sent_alone_leaves_the_same_doubt(
    open_driver: Callable[[str], Driver], proxy: Proxy, store: Session
) -> None:
    """One statement commits by itself: the answer that is lost is that of the start."""
    driver = open_driver(proxy.dsn)
    new = new_runs()
    done = proxy.cut_when(lambda message: b"INSERT INTO" in message, drop_reply=True)

    with pytest.raises(CommitUnknown):
        driver.run(start_runs(new, CHANNEL, always_notify=False))

    assert done.wait(TIMEOUT)
    assert store.rows("SELECT id FROM squidmesh.runs") in ([], [(new.ids[0],)])


def test_a_connection_that_is_lost_before_the_commit_is_no_riddle(
    open_driver: Callable[[str], Driver], proxy: Proxy, store: Session
) -> None:
    driver = open_driver(proxy.dsn)
    done = proxy.cut_when(lambda message: b"register" in message or b"INSERT INTO" in message, drop_reply=True)

    with pytest.raises(psycopg.OperationalError):
        driver.run(two_writes())

    assert done.wait(TIMEOUT)
    assert written(store) == []
    driver.run(write("c"))
    assert written(store) == ["c"]


def test_a_session_that_is_ended_in_the_middle_of_a_flow_leaves_nothing(driver: Driver, store: Session) -> None:
    def flow() -> Flow[None]:
        yield Batch((write("a"),))
        ended = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        assert store.rows(f"{ended} AND datname = current_database()") == [(True,)]
        yield Batch((write("b"),))
        yield Batch((write("c"),), last=True)

    with pytest.raises(psycopg.OperationalError):
        driver.run(flow())
    assert written(store) == []
    driver.run(write("next"))
    assert written(store) == ["next"]


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "1st", "Caps", "a-b", "a b", "a.b", 'a"b', "ä", "x" * 49])
def test_a_schema_is_a_plain_identifier(name: str) -> None:
    with pytest.raises(ConfigurationError, match="lower-case letters"):
        check_schema_name(name)
    with pytest.raises(ConfigurationError, match="lower-case letters"):
        sql_of("read_run", name)


def test_the_schema_of_a_statement_is_replaced_everywhere() -> None:
    assert sql_of("claim_jobs", "x").replace("x.", "squidmesh.") == sql_of("claim_jobs")
    assert "squidmesh" not in sql_of("claim_jobs", "x")
