"""Publisher confirms in a window: each outcome finds its own message, and none is lost or hangs."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
from amqp.exceptions import ChannelError, MessageNacked, NotFound, RecoverableConnectionError
from vine import barrier, promise

import kombu
from kombu.exceptions import ConfirmError, OperationalError
from patience import PATIENCE, Background, until
from peer import DEFAULT_HANDLERS

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

WINDOW = {"confirm_publish": True, "confirm_window": 4}


@pytest.fixture
def connection(peer, connect):
    """A connection with a window of four; the peer leaves publishes unanswered."""
    peer.on("basic.publish", None)
    return connect(peer, **WINDOW)


@pytest.fixture
def producer(connection):
    return kombu.Producer(connection, routing_key="q")


def outstanding(producer: Any) -> int:
    return len(producer.channel.confirm_window)


def seen(producer: Any) -> None:
    """Have all that the peer has sent so far dispatched."""
    producer.channel.connection.channel().queue_declare("marker")


def test_a_publish_returns_at_once_and_its_promise_is_kept(peer, producer):
    confirmation = producer.publish("1")
    assert isinstance(confirmation, promise)
    assert not confirmation.ready and not confirmation.failed and not confirmation.settled
    assert (confirmation.delivery_tag, confirmation.exchange, confirmation.routing_key) == (1, "", "q")
    assert "outstanding" in repr(confirmation)
    peer.session().wait_for("basic.publish", 1)
    peer.session().ack(1)
    confirmation.wait(PATIENCE)
    assert confirmation.ready and confirmation.settled and confirmation.reason is None
    assert "confirmed" in repr(confirmation)
    producer.flush(0)


def test_answers_find_their_own_in_any_order_and_for_several(peer, producer):
    session = peer.session()
    first = [producer.publish(str(number)) for number in range(4)]
    session.wait_for("basic.publish", 4)
    session.ack(3)
    session.nack(1)
    seen(producer)
    assert [each.ready for each in first] == [False, False, True, False]
    assert [each.failed for each in first] == [True, False, False, False]
    session.ack(4, multiple=True)
    seen(producer)
    assert [each.ready for each in first] == [False, True, True, True]
    assert isinstance(first[0].reason, MessageNacked) and "publish tag 1" in str(first[0].reason)
    more = [producer.publish(str(number)) for number in range(3)]
    assert [each.delivery_tag for each in more] == [5, 6, 7]
    session.nack(6, multiple=True)
    session.ack(0, multiple=True)
    seen(producer)
    assert [each.ready for each in more] == [False, False, True]
    assert [str(each.reason)[-1] for each in more[:2]] == ["5", "6"]


def test_answers_nobody_asked_for_harm_nothing(peer, producer):
    session = peer.session()
    confirmation = producer.publish("1")
    session.wait_for("basic.publish", 1)
    session.ack(9)
    session.nack(7)
    session.ack(1)
    session.nack(1)
    session.ack(1, multiple=True)
    confirmation.wait(PATIENCE)
    seen(producer)
    producer.flush(0)


def test_a_returned_message_fails_by_why_it_came_back(peer, producer):
    session = peer.session()
    names = ["a", "b", "a", "c"]
    all_ = [producer.publish(name, routing_key=name, mandatory=name != "c") for name in names]
    session.wait_for("basic.publish", 4)
    session.send_content("basic.return", b"x", reply_code=312, reply_text="NO_ROUTE", routing_key="a")
    session.send_content("basic.return", b"x", reply_code=312, reply_text="NO_ROUTE", routing_key="b")
    session.ack(4, multiple=True)
    with pytest.raises(ConfirmError, match="2 publish.*routing key 'a'.*NO_ROUTE") as raised:
        producer.flush(PATIENCE)
    assert raised.value.failures == all_[:2]
    assert raised.value.count == 2
    assert isinstance(raised.value.__cause__, ChannelError)
    assert [each.failed for each in all_] == [True, True, False, False]
    # Told once.
    producer.flush(0)


def test_on_return_is_called_and_the_promise_fails_all_the_same(peer, connection):
    returned: list[str] = []
    producer = kombu.Producer(
        connection, routing_key="q", on_return=lambda error, exchange, key, message: returned.append(key)
    )
    session = peer.session()
    confirmation = producer.publish("1", mandatory=True)
    session.wait_for("basic.publish", 1)
    session.send_content("basic.return", b"x", reply_code=312, reply_text="NO_ROUTE", routing_key="q")
    session.ack(1)
    producer.flush(PATIENCE)
    assert returned == ["q"]
    assert confirmation.failed and confirmation.reason.reply_code == 312


def test_flush_raises_what_nobody_was_told_of(peer, producer):
    session = peer.session()
    told: list[Any] = []
    waited, listened, called, left = (
        producer.publish("1"),
        producer.publish("2"),
        producer.publish("3", confirm_callback=told.append),
        producer.publish("4"),
    )
    listened.then(lambda tag: None, on_error=told.append)
    left.then(lambda tag: told.append(tag))
    session.wait_for("basic.publish", 4)
    session.nack(4, multiple=True)
    with pytest.raises(MessageNacked, match="tag 1"):
        waited.wait(PATIENCE)
    with pytest.raises(ConfirmError) as raised:
        producer.flush(PATIENCE)
    assert raised.value.failures == [left]
    assert told == [listened.reason, called]
    with pytest.raises(MessageNacked, match="tag 1"):
        waited.wait(0)


def test_a_callback_gets_the_promise(peer, producer):
    got: list[Any] = []
    session = peer.session()
    all_ = [producer.publish(str(number), confirm_callback=got.append) for number in range(3)]
    session.wait_for("basic.publish", 3)
    session.ack(2)
    session.nack(3)
    session.ack(1)
    producer.flush(PATIENCE)
    assert got == [all_[1], all_[2], all_[0]]
    assert [each.failed for each in got] == [False, True, False]


def test_listeners_are_called_late_or_early_in_order_and_once(peer, producer):
    got: list[Any] = []
    session = peer.session()
    confirmation = producer.publish("1", confirm_callback=lambda each: got.append("callback"))
    confirmation.then(lambda tag: got.append(("first", tag)))
    together = barrier([confirmation])
    confirmation.then(lambda tag: got.append(("second", tag)))
    session.wait_for("basic.publish", 1)
    session.ack(1)
    confirmation.wait(PATIENCE)
    confirmation.then(lambda tag: got.append(("late", tag)))
    assert got == ["callback", ("first", 1), ("second", 1), ("late", 1)]
    assert together.ready
    failed = producer.publish("2")
    session.wait_for("basic.publish", 2)
    session.nack(2)
    seen(producer)
    failed.then(got.append, on_error=got.append)
    assert got[4:] == [failed.reason]


def test_a_cancelled_promise_calls_nobody(peer, producer):
    got: list[Any] = []
    session = peer.session()
    confirmation = producer.publish("1", confirm_callback=got.append)
    confirmation.cancel()
    session.wait_for("basic.publish", 1)
    session.nack(1)
    producer.flush(PATIENCE)
    assert got == []
    assert confirmation.failed


def test_an_exception_of_a_callback_comes_out_when_all_have_been_told(peer, connection, producer):
    got: list[Any] = []

    def broken(confirmation: Any) -> None:
        raise KeyError(confirmation.delivery_tag)

    session = peer.session()
    producer.publish("1", confirm_callback=broken)
    producer.publish("2", confirm_callback=got.append)
    session.wait_for("basic.publish", 2)
    session.ack(2, multiple=True)
    with pytest.raises(KeyError, match="1"):
        connection.drain_events(timeout=PATIENCE)
    assert [each.delivery_tag for each in got] == [2]
    producer.flush(0)


def test_a_callback_may_publish(peer, connection, producer):
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    count = iter(range(50))
    got: list[int] = []

    def again(confirmation: Any) -> None:
        got.append(confirmation.delivery_tag)
        if next(count, None) is not None:
            producer.publish("again", confirm_callback=again)

    for _ in range(4):
        producer.publish("1", confirm_callback=again)
    producer.flush(PATIENCE)
    assert got == list(range(1, 55))


# -- the window


def test_a_full_window_blocks_until_there_is_room(peer, producer):
    session = peer.session()
    for number in range(4):
        producer.publish(str(number))
    fifth = Background(producer.publish, "5").start()
    session.wait_for("basic.publish", 4)
    seen_by_peer = len(session.arrived("basic.publish"))
    assert fifth.alive and seen_by_peer == 4
    session.ack(1)
    assert fifth.join().delivery_tag == 5
    session.wait_for("basic.publish", 5)
    assert outstanding(producer) == 4


@pytest.mark.parametrize(
    "limit", [{"confirm_timeout": 0.05}, {"timeout": 0.05}, {"timeout": 60, "confirm_timeout": 0.05}]
)
def test_a_full_window_has_a_time_limit(peer, producer, limit):
    session = peer.session()
    for number in range(4):
        producer.publish(str(number))
    with pytest.raises(TimeoutError, match="nothing was published: 4 publishes are unconfirmed, confirm_window is 4"):
        producer.publish("5", **limit)
    session.wait_for("basic.publish", 4)
    session.ack(4, multiple=True)
    assert producer.publish("6").delivery_tag == 5
    assert [bytes(method.body) for method in session.wait_for("basic.publish", 5)][-1] == b"6"


def test_the_connections_time_limit_is_the_default(peer, connect):
    peer.on("basic.publish", None)
    connection = connect(peer, confirm_timeout=0.05, confirm_publish=True, confirm_window=1)
    producer = kombu.Producer(connection, routing_key="q")
    confirmation = producer.publish("1")
    with pytest.raises(TimeoutError, match="nothing was published"):
        producer.publish("2")
    with pytest.raises(TimeoutError, match="did not confirm publish 1 in time"):
        confirmation.wait()
    with pytest.raises(TimeoutError, match=r"not confirmed in time: 1 publish\(es\) are outstanding"):
        producer.flush()


def test_flush_says_how_many_are_outstanding_and_may_be_called_again(peer, producer):
    session = peer.session()
    all_ = [producer.publish(str(number)) for number in range(3)]
    session.wait_for("basic.publish", 3)
    session.nack(1)
    seen(producer)
    with pytest.raises(TimeoutError, match=r"2 publish\(es\) are outstanding"):
        producer.flush(0.05)
    session.ack(3, multiple=True)
    with pytest.raises(ConfirmError) as raised:
        producer.flush(PATIENCE)
    assert raised.value.failures == all_[:1]


def test_the_channel_flushes_too(peer, connection):
    channel = connection.channel()
    session = peer.session()
    confirmation = channel.basic_publish(channel.prepare_message(b"x"), routing_key="q")
    session.wait_for("basic.publish", 1)
    session.nack(1, channel=channel.channel_id)
    with pytest.raises(ConfirmError) as raised:
        channel.flush(PATIENCE)
    assert raised.value.failures == [confirmation]


def test_a_publish_that_was_not_written_takes_no_number(peer, producer):
    session = peer.session()
    with pytest.raises(Exception, match="short string"):
        producer.publish("1", routing_key="x" * 300)
    confirmation = producer.publish("2")
    assert confirmation.delivery_tag == 1
    session.wait_for("basic.publish", 1)
    session.ack(1)
    producer.flush(PATIENCE)


def test_confirm_publish_alone_is_one_by_one(peer, connect):
    connection = connect(peer, confirm_publish=True)
    producer = kombu.Producer(connection, routing_key="q")
    assert producer.publish("1") is None
    producer.flush(0)
    with pytest.raises(ValueError, match="set confirm_publish and confirm_window"):
        producer.publish("2", confirm_callback=print)
    assert len(peer.session().arrived("basic.publish")) == 1


def test_one_by_one_on_a_channel_with_a_window(peer, connection):
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    channel = connection.channel()
    message = channel.prepare_message(b"x")
    first = channel.basic_publish(message, routing_key="q")
    channel.basic_publish_confirm(message, routing_key="q")
    first.wait(PATIENCE)
    peer.on("basic.publish", lambda session, method: session.nack(3, channel=method.channel))
    with pytest.raises(MessageNacked, match="tag 3"):
        channel.basic_publish_confirm(message, routing_key="q")
    channel.flush(0)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"confirm_window": 5}, ValueError, "confirm_window=5 needs confirm_publish=True: set both"),
        ({"confirm_window": 0, "confirm_publish": True}, ValueError, "confirm_window has to be at least 1, not 0"),
        ({"confirm_window": 2.5, "confirm_publish": True}, TypeError, "confirm_window has to be an integer, not 2.5"),
        ({"confirm_window": True, "confirm_publish": True}, TypeError, "confirm_window has to be an integer, not True"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(peer, connect, options, error, text):
    with pytest.raises(error, match=text):
        connect(peer, **options)


# -- the end


def test_a_channel_closed_by_the_broker_fails_them_all(peer, producer):
    session = peer.session()
    told: list[Any] = []
    all_ = [producer.publish(str(number)) for number in range(2)]
    all_.append(producer.publish("2", confirm_callback=told.append))
    session.wait_for("basic.publish", 3)
    session.ack(1)
    session.send_method("channel.close", 1, reply_code=404, reply_text="NOT_FOUND - no exchange", class_id=60)
    with pytest.raises(ConfirmError, match="no exchange") as raised:
        producer.flush(PATIENCE)
    assert raised.value.failures == [all_[1]]
    assert isinstance(all_[1].reason, NotFound)
    assert told == [all_[2]]
    # The channel opens again, and numbers begin anew.
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    assert producer.publish("3").delivery_tag == 1
    producer.flush(PATIENCE)
    session.expect("confirm.select")


def test_who_is_told_of_the_end_of_a_channel_may_publish_on_it(peer, producer):
    session = peer.session()
    later: list[Any] = []
    producer.publish("1", confirm_callback=lambda each: later.append(producer.publish("2")))
    session.wait_for("basic.publish", 1)
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    session.send_method("channel.close", 1, reply_code=404, reply_text="NOT_FOUND", class_id=60)
    with pytest.raises(NotFound):
        producer.channel.connection.drain_events(PATIENCE)
    later[0].wait(PATIENCE)


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("how", ["flush", "wait", "full", "drain"])
def test_a_lost_connection_fails_them_all(peer, connection, producer, end, how):
    session = peer.session()
    all_ = [producer.publish(str(number)) for number in range(4)]
    session.wait_for("basic.publish", 4)
    session.ack(1)
    session.flush()
    getattr(session, end)()
    if how == "flush":
        with pytest.raises(ConfirmError):
            producer.flush(PATIENCE)
    else:
        with pytest.raises((OSError, RecoverableConnectionError)):
            if how == "wait":
                all_[3].wait(PATIENCE)
            elif how == "full":
                producer.publish("5")
                producer.publish("6")
            else:
                connection.drain_events(timeout=PATIENCE)
                connection.drain_events(timeout=PATIENCE)
        # A write that fails leaves what has been answered to be read.
        with pytest.raises(ConfirmError):
            producer.flush(PATIENCE)
    assert all(each.settled for each in all_)
    assert all(isinstance(each.reason, (OSError, RecoverableConnectionError)) for each in all_[1:])


def test_a_callback_that_fails_at_the_end_takes_nobody_along(peer, connection, producer, caplog):
    session = peer.session()
    told: list[int] = []

    def broken(confirmation: Any) -> None:
        raise KeyError("broken")

    producer.publish("1", confirm_callback=broken)
    producer.publish("2", confirm_callback=lambda each: told.append(each.delivery_tag))
    session.wait_for("basic.publish", 2)
    session.close()
    with pytest.raises(OSError, match="unexpectedly closed"):
        connection.drain_events(timeout=PATIENCE)
    assert told == [2]
    assert "error in a callback of a publish that was not confirmed" in caplog.text


@pytest.mark.parametrize("how", ["channel", "connection", "collect"])
def test_closing_fails_what_is_outstanding(connection, producer, how):
    confirmation = producer.publish("1")
    if how == "channel":
        producer.channel.close()
    elif how == "connection":
        connection.release()
    else:
        connection.collect()
    assert isinstance(confirmation.reason, RecoverableConnectionError)
    with pytest.raises(RecoverableConnectionError):
        confirmation.wait(0)
    producer.flush(0)


def test_failures_are_logged_since_nobody_may_flush(connection, producer, caplog):
    producer.publish("1")
    producer.publish("2")
    connection.release()
    assert "not confirmed: 2 publish(es), the first to exchange '' with routing key 'q'" in caplog.text


def test_after_a_reconnect_the_old_promises_have_failed_and_flush_tells(peer, connection, producer):
    session = peer.session()
    old = producer.publish("1")
    session.wait_for("basic.publish", 1)
    session.close()
    until(lambda: not peer_alive(connection))
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    new = producer.publish("2", retry=True, retry_policy={"max_retries": 3, "interval_start": 0.01})
    assert old.failed and new.delivery_tag == 1
    with pytest.raises(ConfirmError) as raised:
        producer.flush(PATIENCE)
    assert raised.value.failures == [old]
    assert new.ready
    assert producer._windows == (producer.channel.confirm_window,)


def peer_alive(connection: Any) -> bool:
    try:
        connection.connection.check_alive()
    except (OSError, RecoverableConnectionError):
        return False
    return True


def test_retry_gives_up_as_it_does_without_a_window(peer, connection, producer):
    producer.publish("1")
    peer.session().wait_for("basic.publish", 1)
    peer.close()
    with pytest.raises(OperationalError):
        for _ in range(10):
            producer.publish("2", retry=True, retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0})


# -- threads and processes


def test_many_threads_publish_while_one_drains(peer, connect):
    connection = connect(peer, confirm_publish=True, confirm_window=8)
    channel = connection.channel()
    stop = threading.Event()

    def drain() -> None:
        while not stop.is_set():
            try:
                connection.drain_events(timeout=0.05)
            except TimeoutError:
                pass

    def publish(name: int) -> list[Any]:
        producer = kombu.Producer(channel, routing_key=f"q{name}")
        made = [producer.publish(f"{name}:{number}") for number in range(50)]
        producer.flush(PATIENCE)
        return made

    with Background(drain):
        tasks = [Background(publish, name).start() for name in range(4)]
        results = [task.join() for task in tasks]
        stop.set()
    assert all(each.ready for made in results for each in made)
    # The number of each is that of its place on the wire.
    bodies = [bytes(method.body).decode() for method in peer.session().arrived("basic.publish")]
    for name, made in enumerate(results):
        assert [bodies[each.delivery_tag - 1] for each in made] == [f"{name}:{number}" for number in range(50)]


def test_threads_that_block_on_a_full_window_share_it(peer, producer):
    session = peer.session()
    tasks = [Background(producer.publish, str(number)).start() for number in range(12)]
    for answered in (4, 8, 12):
        session.wait_for("basic.publish", answered)
        session.ack(answered, multiple=True)
    for task in tasks:
        task.join()
    producer.flush(PATIENCE)
    assert sorted(int(method.body) for method in session.arrived("basic.publish")) == list(range(12))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_nothing_outstanding(peer, producer):
    session = peer.session()
    failed, confirmation = producer.publish("0"), producer.publish("1")
    session.wait_for("basic.publish", 2)
    session.nack(1)
    seen(producer)
    called: list[Any] = []
    confirmation.then(called.append, on_error=called.append)
    child = os.fork()
    if not child:
        code = 1
        try:
            # Nothing here may wait for what only the parent can hear of.
            signal.alarm(20)
            producer.flush(1)
            if outstanding_in_child(producer) or called:
                code = 2
            else:
                try:
                    confirmation.wait(1)
                    code = 3
                except RecoverableConnectionError:
                    code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not confirmation.settled
    session.ack(2)
    with pytest.raises(ConfirmError) as raised:
        producer.flush(PATIENCE)
    assert raised.value.failures == [failed]
    assert called == [2]


def outstanding_in_child(producer: Any) -> int:
    return sum(map(len, producer._windows))
