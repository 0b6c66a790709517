"""How orders get into message bodies."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from kombu import compression, enable_insecure_serializers, serialization
from kombu.exceptions import DecodeError
from kombu.utils.json import register_type

CONTENT_TYPE = "application/vnd.shop.order+json"


@dataclass(frozen=True)
class Order:
    """What somebody has bought."""

    number: int
    customer: str
    total: Decimal


def encode(order: Order) -> str:
    return json.dumps({**asdict(order), "total": str(order.total)})


def decode(body: str | bytes) -> Order:
    fields: dict[str, Any] = json.loads(body)
    try:
        return Order(fields["number"], fields["customer"], Decimal(fields["total"]))
    except KeyError as exc:
        raise DecodeError(f"an order lacks {exc}") from exc


def encode_fields(order: Order) -> dict[str, str]:
    return {"number": str(order.number), "customer": order.customer, "total": str(order.total)}


def decode_fields(fields: dict[str, str]) -> Order:
    return Order(int(fields["number"]), fields["customer"], Decimal(fields["total"]))


def set_up() -> None:
    """Register everything; to be called once, when the program starts."""
    serialization.register("order", encode, decode, CONTENT_TYPE, content_encoding="utf-8")
    register_type(Order, "order", encode_fields, decode_fields)
    compression.register(zlib.compress, zlib.decompress, "application/x-shop", aliases=["shop"])
    enable_insecure_serializers(["yaml", CONTENT_TYPE])


def round_trip(order: Order) -> bool:
    content_type, content_encoding, body = serialization.dumps(order, serializer="order")
    squeezed, method = compression.compress(body, "shop")
    body = compression.decompress(squeezed, method)
    again = serialization.loads(body, content_type, content_encoding, accept={CONTENT_TYPE})
    return bool(again == order) and "order" in serialization.registry.name_to_type
