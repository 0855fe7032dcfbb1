"""The quick tier and the thorough one: the table of `tiers` is of tests that are there."""

from fnmatch import fnmatchcase

import pytest
from tiers import QUICK_MEMBERS, function_of, is_thorough


def test_every_pattern_of_the_table_matches_a_test(collected):
    """Of the files that were collected with this one: all of them where all tests run."""
    members, files = {}, set()
    for name, member in map(function_of, collected):
        members.setdefault(name, []).append(member)
        files.add(name.partition("::")[0])
    missing = [
        f"{name}[{pattern}]"
        for name, patterns in QUICK_MEMBERS.items()
        if name.partition("::")[0] in files
        for pattern in patterns or ("*",)
        if not any(fnmatchcase(member, pattern) for member in members.get(name, ()))
    ]
    assert missing == []


def test_every_file_keeps_a_quick_test(collected):
    quick = {name.partition("::")[0] for name in collected if not is_thorough(name)}
    assert {name.partition("::")[0] for name in collected} - quick <= {
        "tests/browser/test_export_live.py",
        "tests/browser/test_sensitivity_live.py",
    }


@pytest.mark.parametrize(
    ("nodeid", "thorough"),
    [
        (
            "tests/pruning/test_proof.py::test_masked_equals_compact_and_costs_what_was_counted[resnet20-0.7-inner]",
            False,
        ),
        ("tests/pruning/test_proof.py::test_masked_equals_compact_and_costs_what_was_counted[alexnet-0.7-inner]", True),
        ("tests/calibration/test_moments.py::test_other_families[vgg16_bn_cifar]", True),
        ("tests/pruning/test_plan.py::test_what_is_no_plan_is_refused[{}]", False),
    ],
)
def test_members_are_told_apart(nodeid, thorough):
    assert is_thorough(nodeid) is thorough
