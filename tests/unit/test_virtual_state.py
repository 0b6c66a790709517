"""Bindings and channel numbers of an emulated broker, used by many threads at once."""

from __future__ import annotations

import threading
from array import array

import pytest

from kombu.exceptions import ResourceError
from kombu.transport.virtual import BrokerState, queue_binding_t
from kombu.transport.virtual.state import ChannelIds, free_channel_id


def run_together(count, fun):
    """Call fun(number) in *count* threads that start together; raise what one of them raised."""
    barrier, errors = threading.Barrier(count), []

    def run(number):
        barrier.wait()
        try:
            fun(number)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_a_binding_is_found_by_queue_and_keeps_its_first_arguments():
    state = BrokerState()
    state.binding_declare("q", "e", "k", {"x": 1})
    state.binding_declare("q", "e", "k", {"x": 2})
    assert state.has_binding("q", "e", "k")
    assert list(state.queue_bindings("q")) == [queue_binding_t("e", "k", {"x": 1})]


def test_deleting_a_binding_leaves_the_others():
    state = BrokerState()
    for key in "ab":
        state.binding_declare("q", "e", key, None)
    state.binding_delete("q", "e", "a")
    state.binding_delete("q", "e", "a")
    state.binding_delete("absent", "e", "a")
    assert [each.routing_key for each in state.queue_bindings("q")] == ["b"]
    state.queue_bindings_delete("q")
    state.queue_bindings_delete("q")
    assert list(state.queue_bindings("q")) == []
    assert not state.bindings


def test_asking_about_an_unknown_queue_leaves_no_trace():
    state = BrokerState()
    assert list(state.queue_bindings("absent")) == []
    assert not state.queue_index


def test_the_exchanges_may_be_given_and_clear_forgets_everything():
    exchanges = {"e": {}}
    state = BrokerState(exchanges=exchanges)
    assert state.exchanges is exchanges
    state.binding_declare("q", "e", "k", None)
    state.clear()
    assert not state.exchanges and not state.bindings and not state.queue_index


def test_the_bindings_of_a_queue_may_change_while_they_are_looked_at():
    state = BrokerState()
    for number in range(10):
        state.binding_declare("q", "e", str(number), None)
    seen = []
    for each in state.queue_bindings("q"):
        seen.append(each)
        state.queue_bindings_delete("q")
    assert len(seen) == 1


@pytest.mark.stress
def test_no_binding_is_lost_when_threads_bind_the_same_queue():
    state = BrokerState()
    run_together(8, lambda number: [state.binding_declare("q", "e", f"{number}-{i}", None) for i in range(300)])
    assert len(list(state.queue_bindings("q"))) == len(state.bindings) == 8 * 300


def test_channel_ids_are_low_and_used_again():
    ids = ChannelIds()
    assert [ids.allocate(10) for _ in range(3)] == [1, 2, 3]
    ids.remove(2)
    assert ids.allocate(10) == 2
    assert ids.allocate(10) == 4
    assert ids == array("H", [1, 2, 3, 4])
    assert ids != array("H", [1, 2])
    assert ids != 5


def test_a_number_that_was_appended_is_not_given_out():
    ids = ChannelIds()
    ids.append(1)
    assert ids.allocate(5) == 2


def test_releasing_a_number_that_is_not_taken_is_an_error():
    with pytest.raises(ValueError, match="7"):
        ChannelIds().remove(7)


def test_too_many_channels_are_refused_until_one_is_closed():
    ids = ChannelIds()
    for _ in range(3):
        ids.allocate(3)
    for _ in range(3):
        with pytest.raises(ResourceError, match="current=3, channel_max=3"):
            ids.allocate(3)
    ids.remove(1)
    assert ids.allocate(3) == 1
    assert ids.allocate(4) == 4


def test_a_plain_list_serves_as_channel_ids():
    taken = [1, 3]
    assert free_channel_id(taken, 4) == 2
    assert free_channel_id(taken, 4) == 4
    with pytest.raises(ResourceError, match="channel_max=4"):
        free_channel_id(taken, 4)
    assert sorted(taken) == [1, 2, 3, 4]


@pytest.mark.stress
def test_no_number_is_given_to_two_threads():
    ids = ChannelIds()
    held = [[] for _ in range(8)]

    def open_and_close(number):
        for turn in range(500):
            held[number].append(ids.allocate(65535))
            if turn % 3 == 0:
                ids.remove(held[number].pop(0))

    run_together(8, open_and_close)
    numbers = [number for each in held for number in each]
    assert len(set(numbers)) == len(numbers) == len(ids)
