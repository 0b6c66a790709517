"""Mistakes in the use of the library, one a line; mypy has to find each and nothing else.

A comment names the error code that is expected on its line.
"""

from __future__ import annotations

from typing import Any

from kombu import Connection, Consumer, Exchange, Message, Producer, Queue, connections, producers
from kombu.common import eventloop, maybe_declare
from kombu.mixins import ConsumerMixin
from kombu.pools import set_limit
from kombu.serialization import register

connection = Connection(5672)  # expect: arg-type
connection = Connection("amqp://", heartbeat="10")  # expect: arg-type
connection = Connection("amqp://", transport_options=["confirm_publish"])  # expect: arg-type
connection.drain_event()  # expect: attr-defined
connection.drain_events(timeout="1")  # expect: arg-type
connection.ensure_connection(max_retry=3)  # expect: call-arg
connection.ensure_connection(errback=lambda exc: None)  # expect: arg-type, misc
connection.connected = True  # expect: misc
port: str = connection.host.port  # expect: attr-defined

exchange = Exchange("mail", type=1)  # expect: arg-type
exchange = Exchange("mail", durabel=True)  # expect: call-arg
queue = Queue("mail", exchange, routing_key=7)  # expect: arg-type
queue = Queue("mail", exchange, message_ttl="60")  # expect: arg-type
queue = Queue("mail", [exchange])  # expect: list-item
queue = Queue("mail", exchange, max_prio=9)  # expect: call-arg
queue.get().ack()  # expect: union-attr
bound: Exchange = queue.bind(connection).name  # expect: assignment


def handle(message: Message) -> None:
    message.acknowledge()  # expect: attr-defined
    message.ack("yes")  # expect: arg-type
    message.reject(requeue=None)  # expect: arg-type
    message.headers = None  # expect: assignment
    message.acknowledged = True  # expect: misc


producer = Producer(connection, exchange="mail")  # expect: arg-type
producer.publish({}, priority="high")  # expect: arg-type
producer.publish({}, headers=[("lang", "en")])  # expect: arg-type
producer.publish({}, declare=["mail"])  # expect: list-item
producer.publish({}, retry=True, retry_policy=3)  # expect: arg-type
producer.publish()  # expect: call-arg
producer.connection.release()  # expect: union-attr
connection.ensure(producer, producer.publish, max_retries=3)()  # expect: call-arg
maybe_declare("mail", connection)  # expect: arg-type

Consumer(connection, "mail")  # expect: arg-type
Consumer(connection, queue, callbacks=[handle])  # expect: list-item
Consumer(connection, queue, callbacks=handle)  # expect: arg-type
Consumer(connection, queue, accept=True)  # expect: arg-type
Consumer(connection, queue, on_message=print, prefetch="10")  # expect: call-arg
Consumer(connection, queue).qos(prefetch_count="10")  # expect: arg-type
for _ in eventloop("amqp://"):  # expect: arg-type
    pass

connections["amqp://"].acquire(wait=True)  # expect: call-arg
producers[connection].acquire().publsh({})  # expect: attr-defined
set_limit("10")  # expect: arg-type
jobs = connection.SimpleQueue(exchange)  # expect: arg-type
jobs.get(timeout="1")  # expect: arg-type
print(jobs.get().pay_load)  # expect: attr-defined
register("order", "encode", None, "application/x-order")  # expect: arg-type


class Worker(ConsumerMixin):
    def get_consumers(self, Consumer: Any, channel: Any) -> list[str]:  # expect: override
        return []

    def on_decode_error(self, message: str, exc: Exception) -> None:  # expect: override
        return None
