"""The steps: every sentence and every answer follows from the figures, in every language, on every network."""

import re
from dataclasses import fields
from itertools import chain

import pytest
from samples import EN, TRAINED, UNTRAINED, ZEROS

from fpgm_core import FpgmError
from fpgm_core.lesson import (
    LANGUAGES,
    MEASUREMENTS,
    STEPS,
    Evidence,
    combined,
    get_step,
    known_evidence,
    words_of,
)
from fpgm_core.lesson.evidence import zeros_work
from fpgm_core.runtime.progress import run
from fpgm_core.timing import Target, TimingConfig

SEEN = ("plane", "norms", "median", "reviewer", "agreement", "flops")  # they need weights alone


# Every step, every language, every network


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", [*TRAINED, UNTRAINED])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_as_it_comes(show, step, name, language):
    shown, words = show(step, name, language=language)
    if name == UNTRAINED and step not in (*SEEN, "challenge"):
        assert shown.conclusion == shown.pictures == ()
        assert shown.answer is None
        return
    assert shown.conclusion
    for sentence in (*shown.conclusion, *(picture.caption for picture in shown.pictures)):
        assert sentence
        assert not re.search(r"[{}]|\bnan\b|\binf\b", sentence), sentence
    assert words.names <= set(words_of(language).strings)
    if STEPS[step].options and (name in TRAINED or step in SEEN):
        assert shown.answer in STEPS[step].options
    else:
        assert shown.answer is None
    for picture in shown.pictures:
        assert picture.figure.to_dict()["data"]
        assert len({len(list(values)) for values in (picture.table or {"": []}).values()}) == 1
    names = [picture.name for picture in shown.pictures]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("step", STEPS)
def test_languages_say_the_same(show, step):
    (english, first), (korean, second) = (show(step, language=language) for language in ("en", "ko"))
    assert first.asked == second.asked or len(first.asked) == len(second.asked)
    assert [name for name, _ in first.asked] == [name for name, _ in second.asked]
    assert english.answer == korean.answer
    digits = [re.findall(r"\d+\.\d+", "".join(view.conclusion)) for view in (english, korean)]
    assert sorted(digits[0]) == sorted(digits[1])
    if step != "challenge":
        assert english.conclusion != korean.conclusion


QUESTIONED = [name for name, step in STEPS.items() if step.options]


@pytest.mark.parametrize("step", QUESTIONED)
def test_pictures_do_not_give_the_answer_away(show, step):
    covered, shown = show(step, revealed=False)[0], show(step)[0]
    assert covered.answer == shown.answer
    assert covered.conclusion == shown.conclusion
    assert len(covered.pictures) == 1
    if step != "norms":  # whose picture is what is asked about
        assert covered.pictures[0].figure.to_json() != shown.pictures[0].figure.to_json() or len(shown.pictures) > 1
    titles = (picture.table or () for picture in covered.pictures)
    assert not {EN(f"table.{name}") for name in ("alone", "made_good", "ratio", "correlation")} & {*chain(*titles)}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", QUESTIONED)
def test_what_stands_above_a_question_does_not_answer_it(step, language):
    """A reason waits for the answer: no line of it, nor a formula of it, stands in the lead."""
    words = words_of(language)
    above = [*words(f"{step}.lead").splitlines(), *words(f"{step}.formula").splitlines()]
    reasons = words(f"{step}.why").splitlines() if STEPS[step].explained else []
    assert not {line.strip("$") for line in reasons} & {*above}


def test_the_steps_are_ten_and_take_half_an_hour():
    assert list(STEPS) == ["plane", "norms", "median", "reviewer", "agreement", "replaceable", "cost", "flops", "zeros",
                           "challenge"]  # fmt: skip
    assert all(name == step.name for name, step in STEPS.items())
    assert 20 <= sum(step.minutes for step in STEPS.values()) <= 30
    assert {need for step in STEPS.values() for need in step.needs} == set(MEASUREMENTS)
    assert all(len(step.needs) <= 1 for step in STEPS.values()), "a lesson a step"
    assert all(len(set(step.options)) == len(step.options) != 1 for step in STEPS.values())
    assert all(step.asks or not step.options for step in STEPS.values())
    assert get_step("norms") is STEPS["norms"]
    with pytest.raises(FpgmError, match="unknown step 'nobody'; choose one of plane, norms"):
        get_step("nobody")


# What they need


def test_measurements_tell_their_share_and_return_evidence(network, images):
    shares = []
    sets = images("choose"), images("train")
    brief = TimingConfig(runs=6, seconds=0.01)
    zeros = run(
        zeros_work(network("resnet20"), *sets, target=Target(), config=brief), lambda step: shares.append(step.share)
    ).zeros
    assert shares == sorted(shares)
    assert 0 == shares[0] < shares[-1] <= 1
    assert (zeros.batch, zeros.runs >= 6) == (1, True)
    assert zeros.share == pytest.approx(0.4, abs=0.05)
    contest = run(MEASUREMENTS["contest"](network("resnet20"), *sets)).contest
    assert contest.criteria == ("l2_norm", "fpgm", "fpgm_mix", "refit_cost")


def test_what_was_measured_before_is_known(network, images):
    sets = {"images": images("choose"), "training": images("train")}
    assert known_evidence(network("resnet20"), "contest", **sets).contest.images == 5000
    assert known_evidence(network("resnet20"), "costs", **sets) is None
    assert known_evidence(network("resnet20"), "zeros", **sets) is None


def test_parts_are_combined(evidence):
    known = evidence("resnet20")
    parts = [Evidence(zeros=ZEROS), Evidence(contest=known.contest), Evidence(moments=known.moments)]
    together = combined(parts)
    assert (together.zeros, together.contest, together.moments) == (ZEROS, known.contest, known.moments)
    assert together.replaceability is None
    assert vars(combined([])) == dict.fromkeys(kind.name for kind in fields(Evidence))
