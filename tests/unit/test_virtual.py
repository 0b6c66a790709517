"""Emulated brokers: the contract that third-party transports are written for, and what 5.7 got wrong."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections import deque
from queue import Empty

import pytest
from amqp.exceptions import RecoverableConnectionError

from kombu import Connection, Exchange, Queue
from kombu.exceptions import ChannelError, ResourceError
from kombu.transport import virtual
from kombu.transport.virtual import exchange as exchanges


class Channel(virtual.Channel):
    """What a third party writes: messages in a dict of deques."""

    supports_fanout = True

    @property
    def waiting(self):
        return self.connection.waiting

    def _get(self, queue, timeout=None):
        try:
            return self.waiting[queue].popleft()
        except (KeyError, IndexError):
            raise Empty() from None

    def _put(self, queue, message, **kwargs):
        self.waiting.setdefault(queue, deque()).append(message)

    def _put_fanout(self, exchange, message, routing_key=None, **kwargs):
        for queue in self._lookup(exchange, routing_key):
            self._put(queue, message)

    def _queue_bind(self, *args):
        pass

    def _size(self, queue):
        return len(self.waiting.get(queue, ()))

    def _purge(self, queue):
        return len(self.waiting.pop(queue, ()))


class Transport(virtual.Transport):
    Channel = Channel
    polling_interval = 0.005

    def __init__(self, client, **kwargs):
        super().__init__(client, **kwargs)
        self.waiting = {}


@pytest.fixture
def connection():
    with Connection(transport=Transport) as connection:
        yield connection


@pytest.fixture
def channel(connection):
    return connection.channel()


def publish(channel, body, exchange="", routing_key="q", **kwargs):
    message = channel.prepare_message(body, content_type="text/plain", content_encoding="utf-8", **kwargs)
    channel.basic_publish(message, exchange, routing_key)


# -- Exchanges and bindings.


def test_a_second_declaration_keeps_the_bindings(channel):
    channel.exchange_declare("e")
    channel.queue_bind("q", "e", "k")
    channel.exchange_declare("e")
    publish(channel, "x", "e", "k")
    assert channel.basic_get("q").body == b"x"


def test_a_second_declaration_of_an_unknown_type_keeps_the_exchange(channel):
    channel.exchange_declare("e", "x-own")
    channel.state.exchanges["e"]["table"].append("row")
    channel.exchange_declare("e", "x-own")
    assert channel.get_table("e") == ["row"]
    with pytest.raises(virtual.NotEquivalentError, match="'e' in vhost '/'"):
        channel.exchange_declare("e", "direct")


def test_a_deleted_queue_gets_no_more_messages(channel):
    channel.exchange_declare("e")
    channel.queue_bind("q", "e", "k")
    channel.queue_delete("q")
    publish(channel, "x", "e", "k")
    assert channel._size("q") == 0
    channel.queue_bind("q", "e", "k")
    assert len(channel.get_table("e")) == 1


def test_a_queue_can_be_bound_to_an_exchange_declared_anew(channel):
    channel.exchange_declare("e")
    channel.queue_bind("q", "e", "k")
    publish(channel, "keeps the queue from being deleted", "e", "k")
    channel.exchange_delete("e")
    channel.exchange_declare("e")
    channel.queue_bind("q", "e", "k")
    publish(channel, "x", "e", "k")
    assert channel._size("q") == 2


def test_a_binding_to_an_exchange_that_is_not_there_is_not_kept(channel):
    with pytest.raises(KeyError):
        channel.queue_bind("q", "late", "k")
    channel.exchange_declare("late")
    channel.queue_bind("q", "late", "k")
    publish(channel, "x", "late", "k")
    assert channel._size("q") == 1


def test_passive_declarations_say_what_is_missing(channel, monkeypatch):
    monkeypatch.setattr(Channel, "_has_queue", lambda self, queue, **kwargs: False)
    with pytest.raises(ChannelError, match="404.*no queue 'q' in vhost '/'"):
        channel.queue_declare("q", passive=True)
    with pytest.raises(ChannelError, match="404.*no exchange 'e' in vhost '/'"):
        channel.exchange_declare("e", passive=True)


def test_an_unnamed_queue_gets_a_name(channel):
    first, second = channel.queue_declare(), channel.queue_declare()
    assert first.queue.startswith("amq.gen-") and first.queue != second.queue
    assert (first.message_count, first.consumer_count) == (0, 0)


def test_the_management_interface_lists_bindings(connection, channel):
    channel.exchange_declare("e")
    channel.queue_bind("q", "e", "k")
    manager = connection.get_manager()
    assert manager.get_bindings() == [{"source": "e", "destination": "q", "routing_key": "k"}]
    manager.close()


@pytest.mark.stress
def test_threads_that_declare_and_bind_at_once_lose_nothing(connection):
    # 5.7 let the second of two first declarations replace the table of the first, with what was bound meanwhile.
    for turn in range(30):
        barrier, failures = threading.Barrier(4), []

        def bind(number, turn=turn, barrier=barrier, failures=failures):
            try:
                own = connection.channel()
                barrier.wait()
                own.exchange_declare(f"e{turn}")
                own.queue_bind(f"q{number}", f"e{turn}", "k")
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=bind, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert {row[2] for row in connection.channel().get_table(f"e{turn}")} == {"q0", "q1", "q2", "q3"}


def test_an_exchange_type_says_what_it_lacks():
    kind = exchanges.ExchangeType(None)
    for method, args in (("lookup", ([], "e", "k", None)), ("deliver", ({}, "e", "k"))):
        with pytest.raises(NotImplementedError):
            getattr(kind, method)(*args)


# -- Publishing.


def test_preparing_a_message_leaves_the_callers_dicts_alone(channel):
    headers, properties = {"h": 1}, {"delivery_info": {"own": 1}, "priority": 3}
    message = channel.prepare_message("x", headers=headers, properties=properties)
    channel.basic_publish(message, "", "q")
    assert headers == {"h": 1}
    assert properties == {"delivery_info": {"own": 1}, "priority": 3}
    assert message["properties"]["delivery_info"] == {"own": 1, "exchange": "", "routing_key": "q"}


@pytest.mark.parametrize("body", [b"", b"\x00\xff", "caf\xe9", b"x" * 100_000])
def test_a_body_comes_out_as_bytes(channel, body):
    publish(channel, body)
    raw = channel.waiting["q"][0]
    assert isinstance(raw["body"], str) and raw["properties"]["body_encoding"] == "base64"
    got = channel.basic_get("q").body
    assert got == (body if isinstance(body, bytes) else body.encode()) or (got == "" and not body)


def test_the_body_encoding_may_be_chosen(connection):
    with Connection(transport=Transport, transport_options={"body_encoding": "utf-8"}) as connection:
        channel = connection.channel()
        publish(channel, "caf\xe9")
        assert channel.waiting["q"][0]["body"] == "caf\xe9"
        assert channel.basic_get("q").body == "caf\xe9".encode()


def test_an_unknown_body_encoding_is_named(channel):
    channel.body_encoding = "rot13"
    with pytest.raises(ValueError, match="'rot13'.*base64"):
        publish(channel, "x")


def test_a_codec_may_be_added(connection):
    class Reverse:
        def encode(self, s):
            return s[::-1]

        decode = encode

    class Own(Channel):
        codecs = {**Channel.codecs, "reverse": Reverse()}
        body_encoding = "reverse"

    channel = Own(connection.connection)
    publish(channel, "abc")
    assert channel.waiting["q"][0]["body"] == "cba"
    assert channel.basic_get("q").body == b"abc"


def test_delivery_tags_are_never_equal(channel):
    for _ in range(100):
        publish(channel, "x")
    assert len({channel.basic_get("q").delivery_tag for _ in range(100)}) == 100


def test_what_matches_no_binding_goes_to_the_dead_letter_queue_with_a_warning():
    with Connection(transport=Transport, transport_options={"deadletter_queue": "dead"}) as connection:
        channel = connection.channel()
        channel.exchange_declare("e")
        with pytest.warns(virtual.UndeliverableWarning, match="exchange 'e' using binding key 'k'"):
            publish(channel, "x", "e", "k")
        assert channel.basic_get("dead").body == b"x"


# -- Consuming.


def test_a_message_of_each_channel_in_turn(connection):
    got = []
    for name in "ab":
        own = connection.channel()
        own.basic_consume(name, True, lambda message: got.append(message.body), consumer_tag=name)
        for number in range(3):
            publish(own, f"{name}{number}", routing_key=name)
    for _ in range(6):
        connection.drain_events(timeout=1)
    assert got == [b"a0", b"b0", b"a1", b"b1", b"a2", b"b2"]


def test_cancelling_one_of_two_consumers_of_a_queue_leaves_the_other(connection):
    got = []
    channels = [connection.channel() for _ in range(2)]
    for number, own in enumerate(channels):
        own.basic_consume("q", True, lambda message, number=number: got.append(number), consumer_tag=str(number))
    channels[1].basic_cancel("1")
    publish(channels[0], "x")
    connection.drain_events(timeout=1)
    assert got == [0]


def test_two_consumers_of_a_queue_on_one_channel(connection, channel):
    got = []
    for tag in "ab":
        channel.basic_consume("q", True, lambda message, tag=tag: got.append(tag), consumer_tag=tag)
    for tag, expected in (("b", ["a"]), ("a", ["a"])):
        channel.basic_cancel(tag)
        publish(channel, "x")
        with pytest.raises(TimeoutError):
            while True:
                connection.drain_events(timeout=0)
        assert got == expected
    assert channel._size("q") == 1


def test_a_callback_put_in_by_a_transport_itself_is_removed_on_cancel(connection, channel):
    channel.basic_consume("q", True, print, consumer_tag="a")
    connection.transport._callbacks["q"] = print
    channel.basic_cancel("a")
    assert connection.transport._callbacks == {}


def test_a_message_that_nobody_consumes_goes_back(connection, channel, caplog):
    publish(channel, "x")
    connection.transport._deliver(channel._get("q"), "q")
    assert "No consumers" in caplog.text
    assert channel.basic_get("q").body == b"x"
    with pytest.raises(KeyError, match="without destination"):
        connection.transport._deliver({}, None)


def test_on_message_ready_finds_the_consumer(connection, channel):
    got = []
    channel.basic_consume("q", True, got.append, consumer_tag="a")
    publish(channel, "x")
    connection.transport.on_message_ready(channel, channel._get("q"), "q")
    assert got[0].body == b"x"
    with pytest.raises(KeyError, match="'other'"):
        connection.transport.on_message_ready(channel, {}, "other")


def test_get_many_is_used_where_a_transport_has_it(connection):
    asked = []

    class Many(Channel):
        def _get_many(self, queues, timeout=None):
            asked.append((list(queues), timeout))
            self.connection._deliver(self._get(queues[0]), queues[0])

    own = Many(connection.connection)
    connection.transport.channels.append(own)
    got = []
    own.basic_consume("q", True, got.append, consumer_tag="a")
    publish(own, "x")
    connection.drain_events(timeout=7)
    assert [message.body for message in got] == [b"x"]
    assert asked == [(["q"], 7)]


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self, monkeypatch):
        self.now, self.slept = 100.0, []
        monkeypatch.setattr("kombu.transport.virtual.base.monotonic", lambda: self.now)
        monkeypatch.setattr("kombu.transport.virtual.base.sleep", self.sleep)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    ("timeout", "slept"), [(0, []), (0.5, [0.5]), (1, [1]), (2.5, [1, 1, 0.5]), (-1, [])]
)
def test_draining_ends_at_the_deadline(connection, channel, monkeypatch, timeout, slept):
    # 5.7 sleeps whole intervals, here until 3 of 2.5 seconds.
    clock = Clock(monkeypatch)
    connection.transport.polling_interval = 1
    channel.basic_consume("q", True, print, consumer_tag="a")
    with pytest.raises(TimeoutError):
        connection.transport.drain_events(connection.connection, timeout=timeout)
    assert clock.slept == slept


def test_a_transport_may_block_for_what_is_left_of_the_deadline(connection, channel, monkeypatch):
    Clock(monkeypatch)
    polls = []
    channel._poll = lambda cycle, callback, timeout=None: polls.append(timeout) or cycle.get(callback)
    channel.basic_consume("q", True, print, consumer_tag="a")
    connection.transport.polling_interval = 1
    with pytest.raises(TimeoutError):
        connection.transport.drain_events(connection.connection, timeout=2.5)
    assert polls == [2.5, 1.5, 0.5, 0]


def test_a_transport_without_interval_never_sleeps(connection, channel, monkeypatch):
    monkeypatch.setattr("kombu.transport.virtual.base.sleep", lambda seconds: pytest.fail("slept"))
    connection.transport.polling_interval = None
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.01)


def test_the_polling_interval_may_be_chosen():
    with Connection(transport=Transport, transport_options={"polling_interval": 3}) as connection:
        assert connection.transport.polling_interval == 3


# -- Acknowledgement.


def test_prefetch_limits_what_is_delivered_until_it_is_settled(connection, channel):
    got = []
    for number in range(5):
        publish(channel, str(number))
    channel.basic_qos(prefetch_count=2)
    channel.basic_consume("q", False, got.append, consumer_tag="a")
    for _ in range(2):
        connection.drain_events(timeout=1)
    assert channel.qos.can_consume_max_estimate() == 0
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0)
    for settle in ("ack", "reject"):
        getattr(got.pop(0), settle)()
        connection.drain_events(timeout=1)
    assert [message.body for message in got] == [b"2", b"3"]


def test_an_ack_of_another_thread_makes_room(connection, channel):
    got = []
    for number in range(2):
        publish(channel, str(number))
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("q", False, got.append, consumer_tag="a")
    connection.drain_events(timeout=1)
    thread = threading.Thread(target=got[0].ack)
    thread.start()
    connection.drain_events(timeout=10)
    thread.join()
    assert len(got) == 2


def test_rejected_with_requeue_comes_again_and_is_marked(channel):
    publish(channel, "x", headers={"h": 1})
    channel.basic_get("q").requeue()
    assert channel.waiting["q"][0]["redelivered"] is True
    again = channel.basic_get("q")
    assert (again.body, again.headers) == (b"x", {"h": 1})
    again.reject()
    assert channel.basic_get("q") is None


def test_recover_puts_back_what_is_unacknowledged(channel):
    for number in range(3):
        publish(channel, str(number))
    messages = [channel.basic_get("q") for _ in range(3)]
    messages[1].ack()
    assert channel.basic_recover(requeue=True) == []
    assert sorted(channel.basic_get("q").body for _ in range(2)) == [b"0", b"2"]
    with pytest.raises(NotImplementedError):
        channel.basic_recover(requeue=False)


def test_closing_a_channel_puts_back_what_is_unacknowledged(connection, channel):
    publish(channel, "x")
    channel.basic_get("q")
    channel.close()
    assert connection.channel().basic_get("q").body == b"x"


def test_a_channel_may_keep_what_is_unacknowledged(connection, channel):
    publish(channel, "x")
    channel.basic_get("q")
    channel.qos.restore_at_shutdown = False
    channel.close()
    assert connection.channel().basic_get("q") is None


def test_a_compressed_message_is_put_back_uncompressed(connection, channel):
    queue = Queue("q", Exchange(""), "q")
    connection.Producer(channel).publish({"a": 1}, routing_key="q", compression="gzip")
    message = queue(channel).get()
    assert message.payload == {"a": 1}
    message.requeue()
    again = queue(channel).get()
    assert again.payload == {"a": 1} and "compression" not in again.headers


def test_what_cannot_be_put_back_is_saved_to_a_file(channel, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    publish(channel, "x", headers={"h": 1})
    message = channel.basic_get("q")
    channel._restore = None  # not callable
    channel.close()
    (saved,) = tmp_path.iterdir()
    (state,) = pickle.loads(saved.read_bytes())
    assert (state["body"], state["headers"]) == ("eA==", {"h": 1})
    assert state["properties"]["delivery_tag"] == message.delivery_tag
    assert "UNABLE TO RESTORE 1 MESSAGES" in caplog.text


def test_restoring_reports_to_a_stream_if_there_is_one(channel, capsys):
    publish(channel, "x")
    channel.basic_get("q")

    class Stream:
        text = ""

        def write(self, text):
            self.text += text

    stream = Stream()
    channel.qos.restore_unacked_once(stderr=stream)
    assert "Restoring 1 unacknowledged message(s)" in stream.text
    assert capsys.readouterr().err == ""


def test_a_message_acknowledged_while_it_is_put_back_is_no_failure(channel):
    publish(channel, "x")
    message = channel.basic_get("q")

    def restore(message):
        message.ack()
        raise RuntimeError("gone")

    channel._restore = restore
    assert channel.qos.restore_unacked() == []
    assert message.acknowledged


# -- The end of a channel and of a connection.


@pytest.mark.parametrize(
    "use",
    [
        lambda channel: publish(channel, "x"),
        lambda channel: publish(channel, "x", "e", "k"),
        lambda channel: channel.exchange_declare("e"),
        lambda channel: channel.queue_declare("q"),
        lambda channel: channel.queue_bind("q", "e"),
        lambda channel: channel.queue_purge("q"),
        lambda channel: channel.basic_get("q"),
        lambda channel: channel.basic_consume("q", False, print, "tag"),
        lambda channel: channel.basic_ack("tag"),
        lambda channel: channel.basic_reject("tag", requeue=True),
        lambda channel: channel.basic_recover(requeue=True),
    ],
)
def test_a_closed_channel_refuses_with_a_recoverable_error(channel, use):
    number = channel.channel_id
    channel.close()
    with pytest.raises(RecoverableConnectionError, match=rf"Channel {number} is closed"):
        use(channel)


def test_a_failed_ack_leaves_the_message_unacknowledged(channel):
    publish(channel, "x")
    message = channel.basic_get("q")
    channel.close()
    with pytest.raises(RecoverableConnectionError, match=f"acknowledge delivery tag '{message.delivery_tag}'"):
        message.ack()
    assert not message.acknowledged


def test_closing_twice_is_harmless_and_frees_the_number_once(connection):
    first = connection.channel()
    number = first.channel_id
    first.close()
    first.close()
    second, third = connection.channel(), connection.channel()
    assert second.channel_id == number != third.channel_id


def test_draining_a_closed_connection_raises_a_recoverable_error_every_time(connection, channel):
    transport = connection.transport
    inner = connection.connection
    channel.basic_consume("q", True, print, consumer_tag="a")
    transport.close_connection(inner)
    assert transport.channels == []
    for _ in range(3):
        with pytest.raises(RecoverableConnectionError, match="closed"):
            transport.drain_events(inner, timeout=5)
    transport.establish_connection()
    with pytest.raises(TimeoutError):
        transport.drain_events(inner, timeout=0)


def test_closing_a_connection_ends_a_drain_of_another_thread(connection, channel):
    channel.basic_consume("q", True, print, consumer_tag="a")
    caught = []

    def drain():
        try:
            connection.transport.drain_events(connection.transport, timeout=30)
        except Exception as exc:
            caught.append(exc)

    thread = threading.Thread(target=drain)
    thread.start()
    connection.transport.close_connection(connection.transport)
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(caught[0], RecoverableConnectionError)


def test_channels_are_numbered_and_limited(connection):
    assert connection.connection
    connection.transport.channel_max = 3
    opened = [connection.channel() for _ in range(3)]
    assert sorted(each.channel_id for each in opened) == [1, 2, 3]
    with pytest.raises(ResourceError, match="channel_max=3"):
        connection.transport.create_channel(connection.transport)


def test_a_channel_of_with_is_closed(connection):
    with connection.channel() as channel:
        assert not channel.closed
    assert channel.closed


def test_nothing_warns_on_the_way(connection, channel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        publish(channel, "x")
        channel.basic_get("q").ack()
        channel.close()
