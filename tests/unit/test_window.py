"""The window's bookkeeping: numbers, who is outstanding, and what an answer settles; on both cores alike."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from amqp.exceptions import MessageNacked
from hypothesis import given, settings
from hypothesis import strategies as st
from vine import promise

from kombu.transport.amqp.confirms import refusal
from kombu.transport.amqp.window import Confirmation
from patience import Background


def window(core: Any, size: int = 1000) -> Any:
    return core.window.Window(Confirmation, size)


def publish(window: Any, count: int, **options: Any) -> list[Any]:
    return [window.expect(False, "x", f"k{number}", **options) for number in range(count)]


def state(confirmation: Any) -> str:
    assert not (confirmation.ready and confirmation.failed)
    return "ready" if confirmation.ready else "failed" if confirmation.failed else "outstanding"


def test_a_promise_is_whole(core):
    its = window(core)
    made = its.expect(True, "exchange", "key", print)
    assert type(made) is Confirmation and isinstance(made, promise)
    assert (made.window, made.delivery_tag, made.exchange, made.routing_key) == (its, 1, "exchange", "key")
    assert (made.ready, made.failed, made.cancelled, made.told) == (False, False, False, False)
    assert (made.reason, made.returned, made._svpending, made._lvpending) == (None, None, print, None)
    assert (made.fun, made.args, made.kwargs, made.value, made.weak) == (None, (), {}, None, False)
    made.whatever = "promises take attributes"
    assert made.whatever and weakref.ref(made)() is made
    by_hand = Confirmation(its, 1, "exchange", "key", print)
    names = [name for name in core.window.STATE if name != "window"]
    assert [getattr(made, name) for name in names] == [getattr(by_hand, name) for name in names]


def test_a_class_without_the_slots_is_refused(core):
    with pytest.raises(TypeError, match="promise cannot be a window's promise: it has no slot 'window'"):
        core.window.Window(promise, 10)


def test_numbers_follow_each_other_and_begin_anew(core):
    its = window(core)
    assert [each.delivery_tag for each in publish(its, 3)] == [1, 2, 3]
    assert its.count == 3
    assert its.confirm(3, True) and its.count == 0
    its.restart()
    assert [each.delivery_tag for each in publish(its, 2)] == [1, 2]


def test_an_answer_settles_its_own_or_all_before_it(core):
    its = window(core)
    made = publish(its, 6)
    assert its.confirm(2, False)
    assert [state(each) for each in made] == ["outstanding", "ready", *["outstanding"] * 4]
    assert its.confirm(4, True)
    assert [each.ready for each in made] == [True, True, True, True, False, False]
    assert its.confirm(0, True)
    assert all(each.ready for each in made) and its.count == 0
    # Those that mean nothing mean nothing.
    for tag, multiple in [(9, False), (2**64 - 1, False), (0, False), (3, True), (0, True)]:
        assert its.confirm(tag, multiple)
        assert its.take(tag, multiple, None) == []


def test_who_has_a_listener_is_left_to_the_caller(core):
    its = window(core)
    plain, heard = its.expect(False, "", "q"), its.expect(False, "", "q", print)
    assert not its.confirm(2, False) and not its.confirm(2, True)
    assert its.count == 2 and not plain.ready
    assert its.take(2, True, None) == [heard]
    assert plain.ready and heard.ready and its.count == 0


def test_a_refusal_names_each(core):
    its = window(core)
    made = publish(its, 3)
    its.confirm(2, False)
    assert its.take(3, True, refusal) == [made[0], made[2]]
    assert [str(made[index].reason)[-1] for index in (0, 2)] == ["1", "3"]
    assert all(type(made[index].reason) is MessageNacked for index in (0, 2))


def test_a_returned_publish_fails_by_that_whatever_the_answer(core):
    its = window(core)
    first, other, second = (its.expect(True, "x", key) for key in ("a", "b", "a"))
    errors = [KeyError(number) for number in range(2)]
    assert its.returned("x", "a", errors[0])
    assert its.returned("x", "a", errors[1], True)
    assert not its.returned("x", "a", errors[1]) and not its.returned("x", "c", errors[1])
    # Where one may be returned, nothing is settled in passing.
    assert not its.confirm(3, True)
    assert its.take(3, True, None) == [first, second]
    assert (first.reason, first.told, second.reason, second.told) == (errors[0], False, errors[1], True)
    assert other.ready
    assert its.expect(False, "", "q") and its.confirm(4, False)


def test_what_was_not_written_gives_its_number_back(core):
    its = window(core)
    made = publish(its, 3)
    its.retract([made[2], made[1]])
    assert its.count == 1
    again = its.expect(False, "", "again")
    assert again.delivery_tag == 2
    # One that was settled, or whose number is another's now, gives nothing back.
    its.retract([made[1]])
    assert its.count == 2
    its.take(0, True, lambda tag: OSError("lost"))
    its.retract([again])
    assert its.expect(False, "", "q").delivery_tag == 3
    mandatory = its.expect(True, "", "q")
    its.retract([mandatory])
    assert not its.returned("", "q", KeyError())


def test_promises_made_before_are_numbered_later(core):
    its = window(core)
    made = [Confirmation(its, 0, "", "q") for _ in range(3)]
    its.expect(False, "", "q")
    its.number((each, number == 1) for number, each in enumerate(made))
    assert [each.delivery_tag for each in made] == [2, 3, 4]
    assert its.returned("", "q", KeyError())
    assert its.take(4, True, None) == [made[1]]


def test_a_listener_comes_before_the_answer_or_not_at_all(core):
    its = window(core)
    made = its.expect(False, "", "q")
    assert all(its.listen(made, listener) for listener in "abc")
    assert (made._svpending, made._lvpending) == ("a", ["b", "c"])
    its.take(1, False, None)
    assert not its.listen(made, "d")
    failed = its.expect(False, "", "q")
    assert its.fail(failed, KeyError("x")) and not its.fail(failed, KeyError("y"))
    assert failed.reason.args == ("x",)
    assert not its.listen(failed, "d") and not its.fail(made, KeyError())


def test_a_cleared_window_has_nothing_and_counts_from_one(core):
    its = window(core)
    publish(its, 3)
    its.held = True
    its.clear()
    assert its.count == 0 and not its.held
    assert its.expect(False, "", "q").delivery_tag == 1


def test_one_that_is_never_answered_costs_nothing(core):
    its = window(core)
    first, *rest = publish(its, 40)
    for _ in range(5000):
        last = its.expect(False, "", "q")
        assert its.confirm(last.delivery_tag, False)
    assert its.count == 40 and not any(each.ready for each in rest)
    assert its.confirm(rest[10].delivery_tag, False) and rest[10].ready and its.count == 39
    assert its.confirm(0, True) and first.ready and its.count == 0


def test_nothing_is_kept_of_what_was_settled(core):
    its = window(core)
    made = [weakref.ref(each) for each in publish(its, 100)]
    gc.collect()
    assert all(each() is not None for each in made)
    its.confirm(50, True)
    assert [each() is None for each in made] == [True] * 50 + [False] * 50
    its.take(0, True, refusal)
    assert all(each() is None for each in made)


def test_a_window_that_nobody_has_goes_with_its_promises(core):
    its = window(core)
    made = weakref.ref(its.expect(True, "", "q"))
    del its
    gc.collect()
    assert made() is None


def test_who_is_told_of_the_end_of_a_promise_may_use_the_window(core):
    its = window(core)
    made = publish(its, 10)
    later: list[Any] = []
    finalizers = [weakref.ref(each, lambda _: later.append(its.expect(False, "", "later"))) for each in made]
    made.clear()
    assert its.confirm(10, True)
    assert [each.delivery_tag for each in later] == list(range(11, 21)) and its.count == 10
    assert all(each() is None for each in finalizers)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 90)),
        st.tuples(st.just("confirm"), st.integers(0, 400), st.booleans()),
        st.tuples(st.just("take"), st.integers(0, 400), st.booleans(), st.booleans()),
        st.tuples(st.just("retract"), st.integers(1, 5)),
        st.tuples(st.just("mandatory"), st.integers(1, 3)),
        st.tuples(st.just("heard"), st.integers(1, 3)),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=200)
@given(STEPS)
def test_it_does_what_two_dictionaries_would(core, steps):
    """The pure twin is simple enough to be seen to be right; the compiled one has to do the same."""
    from kombu._pure.window import Window

    model, its = Window(Confirmation, 10), window(core)
    theirs: list[Any] = []
    ours: list[Any] = []

    def both(*args: Any) -> None:
        theirs.append(model.expect(*args))
        ours.append(its.expect(*args))

    for name, *rest in steps:
        if name == "publish":
            for _ in range(rest[0]):
                both(False, "", "q")
        elif name == "mandatory":
            for _ in range(rest[0]):
                both(True, "", "q")
        elif name == "heard":
            for _ in range(rest[0]):
                both(False, "", "q", print)
        elif name == "confirm":
            assert model.confirm(*rest) == its.confirm(*rest)
        elif name == "take":
            tag, multiple, failed = rest
            reason = refusal if failed else None
            told = model.take(tag, multiple, reason)
            likewise = its.take(tag, multiple, reason)
            assert [each.delivery_tag for each in told] == [each.delivery_tag for each in likewise]
        elif name == "restart":
            # The end of a channel comes before it opens again.
            model.take(0, True, refusal)
            its.take(0, True, refusal)
            model.restart()
            its.restart()
        else:
            model.retract(theirs[: -rest[0] - 1 : -1])
            its.retract(ours[: -rest[0] - 1 : -1])
            del theirs[-rest[0] :], ours[-rest[0] :]
        assert model.count == its.count
    assert [(each.delivery_tag, state(each)) for each in ours] == [(each.delivery_tag, state(each)) for each in theirs]


def test_threads_publish_and_listen_while_others_settle(core):
    its = window(core)
    made: list[Any] = []
    heard: list[Any] = []
    done = threading.Event()
    total = 4000

    def publisher() -> None:
        for _ in range(total // 2):
            made.append(its.expect(False, "", "q"))

    def settler() -> None:
        while not done.is_set():
            for each in its.take(its.count // 2 + 1, True, None):
                heard.append(each)

    def listener() -> None:
        index = 0
        while index < total:
            if index < len(made):
                each = made[index]
                if not its.listen(each, print):
                    assert each.ready
                    heard.append(None)
                index += 1

    with Background(settler):
        workers = [Background(each).start() for each in (publisher, publisher, listener)]
        for worker in workers:
            worker.join()
        done.set()
    heard += its.take(0, True, None)
    assert all(each.ready for each in made) and its.count == 0
    assert sorted(each.delivery_tag for each in made) == list(range(1, total + 1))
    # Each listener is either told later or refused, and none is lost.
    assert len(heard) == total
