"""Reasons that differ in their numbers only are one."""

from gasearch.display.reasons import cause_documents, cause_lines, causes

LOST = "Fe {} is labelled Fe3+ but has moment {}, mean bond 2.18 Å"


def test_numbers_and_later_sites_do_not_tell_reasons_apart():
    refused = [
        (9, "order_lost", f"{LOST.format(12, 3.91)}; {LOST.format(14, 3.88)} and 2 more"),
        (4, "order_lost", LOST.format(5, "-3.9e-01")),
        (7, "order_lost", LOST.format(5, 3.9).replace("Fe3+", "Fe2+")),
        (8, "broken", LOST.format(5, 3.9)),
        (5, "failed", ""),
    ]
    found = causes(refused)
    assert [(one.verdict, one.candidates, one.example) for one in found] == [
        ("order_lost", 2, 4),
        ("failed", 1, 5),
        ("order_lost", 1, 7),
        ("broken", 1, 8),
    ]
    assert cause_lines(found, most=2) == [
        f"not ok: 2 order_lost, such as candidate 4: {LOST.format(5, '-3.9e-01')}",
        "not ok: 1 failed, candidate 5: no reason was given",
        "not ok: 2 for 2 other reasons",
    ]
    assert cause_documents(found)[1] == {
        "verdict": "failed", "candidates": 1, "example": 5, "reason": "",
    }  # fmt: skip


def test_where_all_are_ok_there_is_nothing_to_say():
    assert causes([]) == []
    assert cause_lines([]) == []
