"""What the benchmark suite makes of its runs: spreads, ratios, goals, tables, and whether memory grows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not SUITE.is_dir(), reason="the tests stand without the benchmarks here")

if SUITE.is_dir():
    sys.path.append(str(SUITE))
    from report import (
        Results,
        Spread,
        growth,
        judged,
        number,
        readme_tables,
        replaced,
        rst_table,
        text_table,
        verdicts,
        workload_text,
    )
    from shares import PARTS, part_of, shares, table_header, table_row
    from sides import SIDES
    from targets import CONSUMING, TARGETS
    from workloads import WORKLOADS, Workload

    TITLES = {key: side.title for key, side in SIDES.items()}

ABOUT = {
    "command": "python benchmarks/run.py",
    "date": "2000-01-01",
    "machine": {"processor": "A processor", "processors": 2, "system": "Linux x86_64"},
    "python": "3.11.0",
    "revision": "0123abc",
    "rounds": 2,
}


def run(side, seconds, *, workload="consume-raw", round_=1, metric="rate", messages=1000, **more):
    return {
        "workload": workload,
        "title": f"title of {workload}",
        "metric": metric,
        "side": side,
        "round": round_,
        "messages": messages,
        "seconds": seconds,
        "cpu_seconds": seconds / 2,
        "peak_kib": 20480,
        **more,
    }


# -- figures


def test_a_spread_is_the_median_between_the_smallest_and_the_largest():
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(2.5, 1.0, 9.0)


def test_no_values_have_no_spread():
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


@pytest.mark.parametrize(
    "value, text", [(412345.6, "412,346"), (100, "100"), (99.94, "99.9"), (10, "10.0"), (3.456, "3.46"), (0.5, "0.50")]
)
def test_a_number_is_told_with_the_digits_that_say_something(value, text):
    assert number(value) == text


def test_a_ratio_is_taken_round_by_round_whatever_the_order_of_the_runs():
    results = Results(
        [run("kombu57", 1.0), run("ours", 0.1), run("ours", 0.5, round_=2), run("kombu57", 10.0, round_=2)]
    )
    assert results.ratio("consume-raw", "ours") == Spread(15.0, pytest.approx(10.0), 20.0)


def test_a_ratio_says_how_many_times_better_also_where_less_is_better():
    runs = [run("kombu57", 1.0, metric="p50", p50_us=300.0), run("ours", 1.0, metric="p50", p50_us=100.0)]
    assert Results(runs).ratio("consume-raw", "ours").median == 3.0


def test_the_ratio_of_processor_time_does_not_look_at_the_wall_clock():
    mine = run("ours", 5.0, metric="cpu", cpu_seconds=1.0)
    base = run("kombu57", 5.0, metric="cpu", cpu_seconds=4.0)
    assert Results([mine, base]).ratio("consume-raw", "ours").median == 4.0


def test_the_ratio_may_be_asked_of_the_processor_time_too():
    runs = [run("kombu57", 1.0, cpu_seconds=0.9), run("ours", 0.1, cpu_seconds=0.3)]
    assert Results(runs).ratio("consume-raw", "ours", metric="cpu").median == pytest.approx(3.0)


def test_what_has_no_processor_time_has_no_ratio_of_it():
    runs = [run("kombu57", 1.0, metric="us"), run("ours", 0.1, metric="us")]
    for each in runs:
        del each["cpu_seconds"]
    assert Results(runs).ratio("consume-raw", "ours", metric="cpu") is None


def test_rounds_that_only_one_side_finished_do_not_count():
    results = Results([run("kombu57", 1.0), run("ours", 0.1), run("ours", 0.001, round_=2)])
    assert results.ratio("consume-raw", "ours").high == pytest.approx(10.0)
    assert Results([run("ours", 1.0)]).ratio("consume-raw", "ours") is None


def test_a_peer_that_the_client_waits_for_is_told():
    runs = [run("kombu57", 1.0, peer={"cpu": 0.1}), run("ours", 0.1, peer={"cpu": 0.09})]
    text = workload_text(Results(runs), "consume-raw", TITLES)
    assert text.endswith("may be faster than it: this, compiled core")
    assert "may be faster" not in workload_text(Results(runs[:1]), "consume-raw", TITLES)


# -- goals


@pytest.mark.parametrize("median, outcome", [(24.9, "missed"), (25.0, "met"), (39.9, "met"), (40.0, "aim met")])
def test_a_goal_is_judged_by_the_median(median, outcome):
    assert judged(Spread(median, 1.0, 100.0), 25, 40) == outcome


def test_a_goal_without_an_aim_is_met_or_missed():
    assert judged(Spread(60, 60, 60), 50, None) == "met"


def test_a_goal_that_was_not_measured_is_told_as_that():
    assert judged(None, 25, 40) == "not measured"
    assert verdicts(Results([run("ours", 1.0)]))[0].outcome == "not measured"


def test_goals_of_workloads_that_were_not_run_are_not_mentioned():
    made = verdicts(Results([run("kombu57", 1.0), run("ours", 0.02)]))
    assert [(verdict.goal, verdict.outcome) for verdict in made] == [
        ("title of consume-raw", "aim met"),
        ("nothing slower than kombu 5.7.0, compiled core", "met"),
    ]


def test_the_pure_core_has_goals_of_its_own():
    made = verdicts(Results([run("kombu57", 1.0), run("pure", 0.8)]))
    outcomes = {verdict.goal: verdict.outcome for verdict in made}
    assert outcomes["title of consume-raw, pure core"] == "missed"
    assert outcomes["nothing slower than kombu 5.7.0, pure core"] == "met"


def test_what_is_slower_is_named():
    runs = [run("kombu57", 1.0), run("ours", 0.1)]
    runs += [run("kombu57", 1.0, workload="import"), run("ours", 2.0, workload="import")]
    last = verdicts(Results(runs))[-1]
    assert (last.outcome, last.measured) == ("missed", "0.50, smallest of 2")
    assert last.note == "Slower than kombu 5.7.0, compiled core: import 0.50."


def test_the_goal_against_the_consumer_in_c_is_a_ratio_to_that():
    runs = [
        run("kombu57", 1.0, workload="rabbit-raw", metric="cpu"),
        run("ours", 0.1, workload="rabbit-raw", metric="cpu"),
        run("librabbitmq", 0.05, workload="rabbit-raw", metric="cpu"),
    ]
    assert verdicts(Results(runs))[0].outcome == "missed"


def test_goals_are_about_workloads_that_there_are():
    assert {target.workload for target in TARGETS} | set(CONSUMING) <= set(WORKLOADS)
    assert all(target.base in WORKLOADS[target.workload].sides for target in TARGETS)


# -- tables


def test_columns_of_a_text_table_are_aligned():
    assert text_table([["", "a"], ["long name", "1,000"], ["b", "2"]]) == (
        "               a\nlong name  1,000\nb              2"
    )


def test_an_rst_table_has_its_rules_as_wide_as_its_columns():
    assert rst_table([["work", "a"], ["consume", "1,000"]]) == (
        "======= =====\nwork    a\n======= =====\nconsume 1,000\n======= ====="
    )


def test_tables_replace_what_stands_between_the_markers_and_nothing_else():
    text = "before\n.. benchmarks begin\n\nold\n\n.. benchmarks end\nafter\n"
    new = replaced(text, "new")
    assert new == "before\n.. benchmarks begin\n\nnew\n\n.. benchmarks end\nafter\n"
    assert replaced(new, "new") == new


@pytest.mark.parametrize(
    "text", ["", ".. benchmarks begin\n", ".. benchmarks end\n.. benchmarks begin\n", ".. benchmarks end\n"]
)
def test_a_text_without_the_markers_is_refused(text):
    with pytest.raises(ValueError, match="benchmarks begin"):
        replaced(text, "new")


def test_readme_says_what_was_run_where_and_with_which_result():
    tables = readme_tables(Results([run("kombu57", 1.0), run("pure", 0.5), run("ours", 0.02)]), ABOUT, TITLES)
    told = ("``python benchmarks/run.py``", "2000-01-01", "A processor", "3.11.0", "0123abc", "50,000/s", "aim met")
    assert [part for part in told if part not in tables] == []


def test_readme_has_the_other_clients_beside():
    tables = readme_tables(Results([run("kombu57", 1.0), run("ours", 0.02), run("pika", 0.4)]), ABOUT, TITLES)
    assert "Beside other clients" in tables
    assert "2,500/s" in tables


# -- memory


def test_memory_that_is_flat_after_the_first_tenth_has_not_grown():
    assert growth([100, 900] * 5 + [1000] * 90) == 0


def test_memory_that_rises_to_the_end_has_grown():
    assert growth(list(range(0, 1000, 10))) == 800


def test_too_few_samples_say_nothing():
    with pytest.raises(ValueError, match="20 are needed"):
        growth([1] * 19)


# -- workloads


def test_each_side_gets_a_number_of_messages_that_fits_its_speed():
    workload = Workload("key", "title", "consume", "stream", ("kombu57", "pure", "ours"), count=100_000, slow=1_000)
    assert [workload.messages(side)[0] for side in workload.sides] == [1_000, 10_000, 100_000]


def test_a_share_of_the_messages_leaves_some_to_be_timed():
    for workload in WORKLOADS.values():
        for side in workload.sides:
            count, warm = workload.messages(side, 0.0001)
            assert 0 < warm < count


def test_every_side_takes_part_or_has_a_reason():
    for workload in WORKLOADS.values():
        if workload.default:
            told = {*workload.sides, *workload.left_out}
            assert told == set(SIDES), workload.key
            assert not set(workload.sides) & set(workload.left_out), workload.key


# -- what a client compares


@pytest.fixture
def check():
    import measure

    made = measure.Check({"content": "json", "size": 256, "warm": 3})
    for number in range(3):
        made.one(number, made.expected(number))
    return made


def failed():
    import measure

    return measure.Failed


def total(numbers):
    return sum(1_000_000_000 + number for number in numbers)


def test_messages_that_are_as_they_were_sent_pass(check):
    check.begin()
    check.end(3, 10, total(range(3, 10)), check.expected(9))


def test_a_first_message_with_another_body_fails(check):
    check.one(3, {**check.expected(3), "note": "another"})
    with pytest.raises(failed(), match="first messages"):
        check.begin()


def test_a_message_that_came_twice_in_place_of_another_fails(check):
    with pytest.raises(failed(), match="the sum over 7 messages"):
        check.end(3, 10, total([3, 4, 5, 5, 7, 8, 9]), check.expected(9))


def test_a_last_message_with_another_body_fails(check):
    with pytest.raises(failed(), match="message 10 is not the one"):
        check.end(3, 10, total(range(3, 10)), {**check.expected(9), "note": "another"})


def test_what_the_peer_has_not_seen_is_named():
    import run as suite

    seen = {"delivered": 10, "acked": 9}
    suite.expect(seen, delivered=10)
    with pytest.raises(suite.WrongResult, match="acked 9 instead of 10"):
        suite.expect(seen, delivered=10, acked=10)


# -- profiles


@pytest.mark.parametrize(
    ("symbol", "file", "part"),
    [
        ("tcp_sendmsg_locked", "[kernel.kallsyms]", "kernel"),
        ("ip_rcv", "[nf_conntrack.ko]", "kernel"),
        ("_PyEval_EvalFrameDefault", "/usr/lib/libpython3.11.so.1.0", "interpreter"),
        ("_PyObject_GC_New", "/usr/bin/python3.13", "interpreter"),
        ("gc_collect_main", "/usr/bin/python3.13", "garbage collector"),
        ("dict_traverse", "/usr/lib/libpython3.11.so.1.0", "garbage collector"),
        ("__pyx_f_5kombu_drain", "/venv/lib/kombu/_speedups/drain.cpython-311-x86_64-linux-gnu.so", "compiled core"),
        ("__pyx_tp_traverse_Message", "/venv/lib/kombu/_speedups/message.so", "garbage collector"),
        ("encoder_listencode_obj", "/usr/lib/python3.11/lib-dynload/_json.cpython-311.so", "json"),
        ("__vdso_clock_gettime", "[vdso]", "other libraries"),
        ("__send", "/usr/lib/x86_64-linux-gnu/libc.so.6", "other libraries"),
        ("[unknown]", "[unknown]", "other libraries"),
    ],
)
def test_a_function_belongs_to_the_part_that_its_file_and_name_say(symbol, file, part):
    assert part_of(symbol, file) == part


def test_the_shares_of_a_profile_add_up_and_skip_lines_that_are_no_samples():
    found = shares(
        [
            "",
            "    7f9dce9e52b5 _dl_relocate_object (/usr/lib/ld-linux-x86-64.so.2)",
            " ffffffff81400703 __rcu_read_lock ([kernel.kallsyms])",
            "    7f9dce6ba75b operator new(unsigned long) (/usr/lib/libpython3.11.so.1.0)",
            " ffffffff81400703 tcp_push ([kernel.kallsyms])",
        ]
    )
    assert list(found) == list(PARTS)
    assert (found["kernel"], found["interpreter"], found["other libraries"]) == (0.5, 0.25, 0.25)
    assert sum(found.values()) == 1


def test_a_profile_without_samples_is_refused():
    with pytest.raises(ValueError, match="no samples"):
        shares(["", "nothing"])


def test_the_columns_of_a_profile_are_microseconds_a_message():
    parts = {part: 0.0 for part in PARTS} | {"kernel": 0.75, "json": 0.25}
    assert dict(zip(table_header(), table_row("publish", 4.0, parts), strict=True)) == {
        "us of processor time a message": "publish", "all": "4.00", "kernel": "3.00", "interpreter": "0.00",
        "garbage collector": "0.00", "compiled core": "0.00", "json": "1.00", "other libraries": "0.00",
    }
