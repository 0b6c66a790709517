"""Objects made of keywords, and entities that are bound to channels."""

from __future__ import annotations

import copy
import pickle

import pytest

from kombu.abstract import MaybeChannelBound, Object
from kombu.exceptions import NotBoundError
from kombu.utils.functional import ChannelPromise
from recording import RecordingChannel, RecordingConnection


class Point(Object):
    attrs = (("x", int), ("y", None), ("inner", None))
    y = "default"


class Entity(MaybeChannelBound):
    attrs = (("name", None),)

    def __init__(self, *args, **kwargs):
        self.bound_to = []
        super().__init__(*args, **kwargs)

    def when_bound(self):
        self.bound_to.append(self._channel)


def test_keywords_become_attributes_and_are_converted():
    assert Point(x="3", y=4, z=5).__dict__ == {"x": 3, "y": 4, "inner": None}


def test_a_keyword_that_is_none_leaves_the_default_of_the_class():
    point = Point(x=None, y=None)
    assert (point.x, point.y) == (None, "default")


def test_a_false_keyword_is_a_value():
    assert Point(y=0).y == 0


def test_as_dict_converts_and_recurses_when_asked_to():
    inner = Point(x=1)
    outer = Point(x=2, inner=inner)
    outer.x = "7"
    assert outer.as_dict() == {"x": 7, "y": "default", "inner": inner}
    assert outer.as_dict(recurse=True)["inner"] == {"x": 1, "y": "default", "inner": None}


@pytest.mark.parametrize("again", [copy.copy, lambda obj: pickle.loads(pickle.dumps(obj))])
def test_copies_and_pickles_keep_the_attributes(again):
    point = Point(x=1, y=2)
    other = again(point)
    assert type(other) is Point and other is not point
    assert other.__dict__ == point.__dict__


def test_binding_makes_a_copy_and_leaves_the_original_unbound():
    entity, channel = Entity(name="n"), RecordingChannel()
    for bound in (entity(channel), entity.bind(channel)):
        assert bound is not entity and bound.name == "n"
        assert bound.is_bound and bound.channel is channel and bound.bound_to == [channel]
    assert not entity.is_bound and entity.bound_to == []


def test_a_connection_stands_for_its_default_channel():
    connection = RecordingConnection()
    assert Entity()(connection).channel is connection.default_channel


def test_maybe_bind_binds_once():
    first, second = RecordingChannel(), RecordingChannel()
    entity = Entity()
    assert entity.maybe_bind(first) is entity
    assert entity.maybe_bind(second).channel is first
    assert not Entity().maybe_bind(None).is_bound


def test_revive_moves_a_bound_entity_and_leaves_an_unbound_one():
    first, second = RecordingChannel(), RecordingChannel()
    entity = Entity()
    entity.revive(first)
    assert not entity.is_bound
    entity.maybe_bind(first)
    entity.revive(second)
    assert entity.channel is second and entity.bound_to == [first, second]


def test_channel_of_an_unbound_entity_raises():
    with pytest.raises(NotBoundError, match="Can't call method on Entity not bound to a channel"):
        Entity().channel  # noqa: B018


def test_a_promised_channel_is_made_once_and_only_when_used():
    made = []

    def make():
        made.append(RecordingChannel())
        return made[-1]

    entity = Entity().maybe_bind(ChannelPromise(make))
    assert entity.is_bound and not made
    assert entity.channel is entity.channel is made[0]
    assert len(made) == 1


def test_repr_says_what_it_is_bound_to():
    assert repr(Entity()) == "<unbound Entity>"
    assert repr(Entity()(RecordingChannel())) == "<Entity bound to chan:1>"
