"""What can be imported from kombu.messaging, and from kombu, by those who send and receive."""

from __future__ import annotations

import pickle

import pytest

import kombu
from kombu import entity, messaging


@pytest.mark.parametrize("name", ["Exchange", "Queue", "binding"])
def test_entities_are_the_same_objects_everywhere(name):
    assert getattr(kombu, name) is getattr(entity, name)
    assert getattr(messaging, name, getattr(entity, name)) is getattr(entity, name)


@pytest.mark.parametrize("name", ["Producer", "Consumer"])
def test_producer_and_consumer_are_the_same_objects_everywhere(name):
    assert getattr(kombu, name) is getattr(messaging, name)


def test_names_that_programs_have_imported_from_here_are_still_here():
    assert set(messaging.__all__) == {"Exchange", "Queue", "Producer", "Consumer"}
    for name in ("DEFAULT_BATCH_SIZE", "ContentDisallowed", "maybe_declare", "maybe_channel", "is_connection"):
        assert hasattr(messaging, name)


def test_a_class_pickles_under_the_name_it_had():
    for cls in (messaging.Producer, messaging.Consumer, entity.Exchange, entity.Queue, entity.binding):
        assert pickle.loads(pickle.dumps(cls)) is cls
        assert cls.__module__ in ("kombu.messaging", "kombu.entity")
