"""The answers that the scripted peer gives unless a test says otherwise: those of an ordinary server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wire import Method

if TYPE_CHECKING:
    from session import Session

Handler = Callable[["Session", Method], None]


def take_note(session: Session, method: Method) -> None:
    """Keep the session's attributes true, whatever the script answers."""
    match method.name:
        case "connection.start-ok":
            session.client_properties = method.client_properties
            session.mechanism = method.mechanism
            session.response = bytes(method.response)
        case "connection.tune-ok":
            session.frame_max = method.frame_max
            session.heartbeat_interval = method.args["heartbeat"]
            session.channel_max = method.channel_max
        case "connection.open":
            session.virtual_host = method.virtual_host
        case "basic.publish":
            if method.channel in session.confirming:
                session.confirming[method.channel] += 1
        case "confirm.select":
            session.confirming.setdefault(method.channel, 0)
        case "channel.open":
            session.confirming.pop(method.channel, None)
            session.delivery_tags[method.channel] = 0
        case "basic.cancel":
            session.consumers.pop(method.consumer_tag, None)


def _start(session: Session, _method: Method) -> None:
    peer = session.peer
    session.send_method(
        "connection.start",
        version_major=0,
        version_minor=9,
        server_properties=peer.server_properties,
        mechanisms=peer.mechanisms,
        locales="en_US",
    )


def _tune(session: Session, _method: Method) -> None:
    peer = session.peer
    session.send_method(
        "connection.tune", channel_max=peer.channel_max, frame_max=peer.frame_max, heartbeat=peer.heartbeat
    )


def _open(session: Session, _method: Method) -> None:
    with session.peer.changed:
        session.opened = True
        session.peer.changed.notify_all()
    session.send_method("connection.open-ok")


def _connection_close(session: Session, _method: Method) -> None:
    session.send_method("connection.close-ok")
    session.close()


def _declare_queue(session: Session, method: Method) -> None:
    if not method.nowait:
        name = method.args["queue"] or f"generated-{next(session.names)}"
        session.send_method("queue.declare-ok", method.channel, queue=name)


def _consume(session: Session, method: Method) -> None:
    tag = method.consumer_tag or f"tag-{next(session.names)}"
    session.consumers[tag] = method.channel
    if not method.nowait:
        session.send_method("basic.consume-ok", method.channel, consumer_tag=tag)


def _cancel(session: Session, method: Method) -> None:
    if not method.nowait:
        session.send_method("basic.cancel-ok", method.channel, consumer_tag=method.consumer_tag)


def _get(session: Session, method: Method) -> None:
    session.send_method("basic.get-empty", method.channel)


def _publish(session: Session, method: Method) -> None:
    if method.channel in session.confirming:
        session.ack(session.confirming[method.channel], channel=method.channel)


def _ok(session: Session, method: Method) -> None:
    if not method.args.get("nowait"):
        session.send_method(f"{method.name}-ok", method.channel)


#: The answers that :meth:`Peer.on` replaces; a method that is not here gets none.
DEFAULT_HANDLERS: dict[str, Handler] = {
    "protocol-header": _start,
    "connection.start-ok": _tune,
    "connection.open": _open,
    "connection.close": _connection_close,
    "queue.declare": _declare_queue,
    "basic.consume": _consume,
    "basic.cancel": _cancel,
    "basic.get": _get,
    "basic.publish": _publish,
} | {
    name: _ok
    for name in (
        "channel.open",
        "channel.close",
        "exchange.declare",
        "exchange.delete",
        "exchange.bind",
        "exchange.unbind",
        "queue.bind",
        "queue.unbind",
        "queue.purge",
        "queue.delete",
        "basic.qos",
        "basic.recover",
        "confirm.select",
        "tx.select",
        "tx.commit",
        "tx.rollback",
    )
}
