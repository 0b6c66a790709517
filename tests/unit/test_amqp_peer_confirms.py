"""Publisher confirms against a peer that answers late, out of turn, for several at once, or not at all."""

from __future__ import annotations

import threading

import pytest
from amqp.exceptions import ChannelError, MessageNacked, NotFound, RecoverableConnectionError

from clients import publish
from patience import PATIENCE, Background, until
from peer import DEFAULT_HANDLERS


@pytest.fixture
def channel(peer, connect):
    """A channel in confirm mode; the peer leaves its publishes unanswered."""
    peer.on("basic.publish", None)
    made = connect(peer, confirm_publish=True).channel()
    made.confirm_select()
    return made


def publishes(session, count):
    session.wait_for("basic.publish", count)


def test_a_late_confirm_is_not_credited_to_the_next_publish(peer, channel):
    session = peer.session()
    with pytest.raises(TimeoutError, match="did not confirm publish 1 within 0.1 seconds"):
        publish(channel, b"1", confirm_timeout=0.1)
    second = Background(publish, channel, b"2").start()
    publishes(session, 2)
    session.ack(1)
    session.flush()
    # The peer's answer to a method behind it shows that the late confirm has been seen.
    other = channel.connection.channel()
    other.queue_declare("marker")
    assert second.alive
    session.ack(2)
    second.join()
    # The other way round: a refusal that comes late is not the next one's either.
    with pytest.raises(TimeoutError, match="publish 3"):
        publish(channel, b"3", confirm_timeout=0.1)
    fourth = Background(publish, channel, b"4").start()
    publishes(session, 4)
    session.nack(3)
    session.ack(4)
    fourth.join()


def test_a_refusal_is_raised(peer, channel):
    session = peer.session()
    peer.on("basic.publish", lambda session, method: session.nack(1))
    with pytest.raises(MessageNacked, match="publish tag 1"):
        publish(channel)
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    publish(channel)
    assert len(session.arrived("basic.publish")) == 2


def threads_publishing(channel, count):
    """Publish b"0", b"1" and so on, each from a thread of its own."""
    return [Background(publish, channel, b"%d" % number).start() for number in range(count)]


def by_tag(session, tasks):
    """Return those threads by the tag that each one's publish got."""
    publishes(session, len(tasks))
    order = [int(method.body) for method in session.arrived("basic.publish")]
    return {tag: tasks[number] for tag, number in enumerate(order, 1)}


def test_one_answer_for_several(peer, channel):
    session = peer.session()
    tasks = by_tag(session, threads_publishing(channel, 6))
    session.ack(3, multiple=True)
    for tag in (1, 2, 3):
        tasks[tag].join()
    assert all(tasks[tag].alive for tag in (4, 5, 6))
    session.nack(5, multiple=True)
    for tag in (4, 5):
        with pytest.raises(MessageNacked, match=f"publish tag {5}"):
            tasks[tag].join()
    assert tasks[6].alive
    session.ack(0, multiple=True)
    tasks[6].join()


def test_answers_in_any_order_find_their_own(peer, channel):
    session = peer.session()
    tasks = by_tag(session, threads_publishing(channel, 5))
    for tag in (4, 2, 5):
        session.ack(tag)
        tasks[tag].join()
    session.nack(1)
    with pytest.raises(MessageNacked):
        tasks[1].join()
    assert tasks[3].alive
    session.ack(3)
    tasks[3].join()


def test_answers_nobody_asked_for_harm_nothing(peer, channel):
    session = peer.session()
    session.ack(7)
    session.nack(8)
    task = Background(publish, channel).start()
    publishes(session, 1)
    session.ack(1)
    session.ack(1)
    task.join()
    task = Background(publish, channel).start()
    publishes(session, 2)
    session.nack(1)
    session.ack(2)
    task.join()


def test_confirms_reach_their_publishers_while_another_thread_drains(peer, channel):
    connection = channel.connection
    session = peer.session()
    stop = threading.Event()

    def drain():
        while not stop.is_set():
            try:
                connection.drain_events(timeout=0.05)
            except TimeoutError:
                pass

    with Background(drain):
        for _ in range(20):
            start = len(session.arrived("basic.publish"))
            tasks = [Background(publish, channel).start() for _ in range(3)]
            publishes(session, start + 3)
            session.ack(start + 3, multiple=True)
            for task in tasks:
                task.join()
        stop.set()


def test_a_returned_publish_raises_why_it_came_back(peer, channel):
    def come_back(session, method):
        session.send_content("basic.return", b"x", reply_code=312, reply_text="NO_ROUTE", routing_key="q")
        session.ack(session.confirming[1])

    peer.on("basic.publish", come_back)
    with pytest.raises(ChannelError, match="NO_ROUTE") as raised:
        publish(channel, mandatory=True)
    assert raised.value.reply_code == 312
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    publish(channel, mandatory=True)


def test_each_return_finds_its_own_publish(peer, channel):
    session = peer.session()
    names = ["a", "b", "c"]
    tasks = {name: Background(lambda name=name: publish(channel, routing_key=name, mandatory=True)) for name in names}
    for number, name in enumerate(names, 1):
        tasks[name].start()
        publishes(session, number)
    session.send_content("basic.return", b"x", reply_code=312, reply_text="NO_ROUTE", routing_key="b")
    session.ack(3, multiple=True)
    tasks["a"].join()
    tasks["c"].join()
    with pytest.raises(ChannelError, match="NO_ROUTE"):
        tasks["b"].join()


def test_there_is_a_time_limit_by_default(peer, connect):
    peer.on("basic.publish", None)
    usual = connect(peer, confirm_publish=True)
    assert 0 < usual.connection.confirm_timeout <= 60
    quick = connect(peer, confirm_publish=True, confirm_timeout=0.1)
    with pytest.raises(TimeoutError, match="within 0.1 seconds"):
        publish(quick.channel())
    # A publish's own timeout is one for the answer, too.
    with pytest.raises(TimeoutError, match="within 0.2 seconds"):
        publish(usual.channel(), timeout=0.2)


def test_traffic_does_not_extend_the_time_limit(peer, channel):
    session = peer.session()
    stop = threading.Event()

    def chatter():
        while not stop.wait(0.005):
            session.heartbeat()
            session.ack(1000)

    with Background(chatter):
        with pytest.raises(TimeoutError, match="within 0.2 seconds"):
            publish(channel, confirm_timeout=0.2)
        stop.set()


def test_a_channel_closed_by_the_broker_tells_those_who_wait(peer, channel):
    session = peer.session()
    tasks = [Background(publish, channel, b"%d" % number).start() for number in range(3)]
    publishes(session, 3)
    session.send_method("channel.close", 1, reply_code=404, reply_text="NOT_FOUND - no exchange", class_id=60)
    for task in tasks:
        with pytest.raises(NotFound, match="no exchange"):
            task.join()
    session.expect("channel.close-ok")


def test_confirm_mode_is_selected_again_on_a_channel_that_opened_again(peer, channel):
    session = peer.session()
    session.expect("confirm.select")
    task = Background(publish, channel).start()
    publishes(session, 1)
    session.send_method("channel.close", 1, reply_code=404, reply_text="NOT_FOUND")
    with pytest.raises(NotFound):
        task.join()
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    publish(channel)
    session.expect("confirm.select")
    # Numbers begin anew, and the answer that counts is the new channel's.
    assert session.confirming[channel.channel_id] == 1


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_lost_connection_tells_those_who_wait(peer, channel, end):
    session = peer.session()
    tasks = [Background(publish, channel, b"%d" % number).start() for number in range(3)]
    publishes(session, 3)
    getattr(session, end)()
    for task in tasks:
        with pytest.raises((OSError, RecoverableConnectionError)):
            task.join()
    with pytest.raises(RecoverableConnectionError):
        publish(channel)


def test_a_publish_that_was_not_written_takes_no_number(peer, channel):
    session = peer.session()
    with pytest.raises(Exception, match="short string"):
        publish(channel, routing_key="x" * 300)
    task = Background(publish, channel).start()
    publishes(session, 1)
    session.ack(1)
    task.join()


def test_what_awaits_its_answer_is_forgotten_when_it_came_or_was_given_up(peer, channel):
    with pytest.raises(TimeoutError):
        publish(channel, confirm_timeout=0.05)
    peer.on("basic.publish", DEFAULT_HANDLERS["basic.publish"])
    for _ in range(10):
        publish(channel)
    assert len(channel._confirms) == 0


def test_confirms_show_at_the_producer(peer, connect):
    import kombu

    connection = connect(peer, confirm_publish=True)
    producer = kombu.Producer(connection, serializer="json")
    producer.publish({"a": 1}, routing_key="q")
    peer.on("basic.publish", lambda session, method: session.nack(session.confirming[method.channel]))
    with pytest.raises(MessageNacked):
        producer.publish({"a": 2}, routing_key="q")
    assert until(lambda: len(peer.session().arrived("basic.publish")) == 2, PATIENCE)
