"""Blocks of workers and their walltimes."""

from gasearch.execution.parsl.running import Walltimes


def test_a_block_with_less_time_left_than_a_batch_takes_gets_no_more():
    walltimes = Walltimes("00:10:00")
    walltimes.began("0", 100.0)
    walltimes.began("0", 400.0)
    walltimes.began("1", 300.0)
    assert walltimes.too_short(["0", "1"], 120.0, 549.0) == set()
    assert walltimes.too_short(["0", "1"], 120.0, 551.0) == {"0"}
    assert walltimes.too_short(["0", "1"], 330.0, 551.0) == {"0", "1"}
    assert walltimes.too_short(["new"], 120.0, 551.0) == set()


def test_this_machine_has_none():
    walltimes = Walltimes("")
    walltimes.began("0", 0.0)
    assert walltimes.too_short(["0"], 1e9, 1e9) == set()
