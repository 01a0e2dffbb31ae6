"""Visits that share a job are alike, and the name of their rule leads back to the rule of one visit."""

import pytest

from diaflow.run import batches


def test_batches_hold_visits_that_are_alike_in_their_order():
    keys = dict.fromkeys([1, 2, 4, 6, 8, 9, 11], "g") | dict.fromkeys([3, 5], "r")
    assert batches.group(keys, 3) == [[1, 2, 4], [6, 8, 9], [11], [3, 5]]
    assert batches.group(keys | {12: "g"}, 3) == [[1, 2, 4], [6, 8, 9], [11, 12], [3, 5]]


@pytest.mark.parametrize("rule", ["calexp", "warp_matched"])
def test_name_of_a_batch_is_that_of_its_rule_and_its_first_visit(rule):
    name = batches.batch_name(rule, [17, 19])
    assert name == f"{rule}_17" and batches.rule_of(name) == batches.rule_of(rule) == rule
