"""Step 7: criteria at equal MACs on every rung."""

from __future__ import annotations

from fpgm_core.evaluation import Contest
from fpgm_core.figures import lesson as figures
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import CostControls
from fpgm_core.models import bundled_record
from fpgm_core.pruning import Network
from fpgm_core.runtime.words import Words


def show_cost(context: StepContext, controls: CostControls) -> StepView:
    """The contest and what it says; empty if it was not measured."""
    contest = context.evidence.contest
    if contest is None:
        return StepView()
    rung = controls.rung if controls.rung in contest.rungs else contest.rungs[0]  # a network may not have it
    leaders = contest.ranking(rung).leaders
    return StepView(
        tuple(_contest_pictures(context, contest, rung=rung)),
        tuple(_contest_says(context.network, contest, rung=rung, words=context.words)),
        leaders[0] if len(leaders) == 1 else "none",
    )


def _contest_pictures(context: StepContext, contest: Contest, *, rung: str) -> list[Picture]:
    words, record = context.words, bundled_record(context.network.name)
    names = contest.criteria if context.revealed else ()
    figure = figures.contest_figure(
        [words(f"rung.{name}") for name in contest.rungs],
        criteria={
            words(f"criterion.{name}"): [contest.accuracy(contest.entry(name), rung) for rung in contest.rungs]
            for name in names
        },
        control=[[contest.accuracy(entry, rung).value for entry in contest.random] for rung in contest.rungs],
        dense=record["accuracy"][contest.split]["accuracy"] if record else None,
        words=words,
    )
    caption = words("cost.ladder" if context.revealed else "cost.ladder_covered", coupling=contest.coupling,
                    rate=contest.rate, images=contest.images)  # fmt: skip
    pictures = [Picture("contest", figure, caption, _contest_table(contest, names, words=words))]
    if context.revealed:
        pictures.append(_changes_picture(contest, rung, words=words))
    return pictures


def _contest_table(contest: Contest, criteria: tuple[str, ...], *, words: Words) -> dict[str, list[object]]:
    entries = [contest.entry(name) for name in criteria]
    titles = [words(f"criterion.{name}") for name in criteria]
    titles += [words("table.random_seed", seed=entry.seed) for entry in contest.random]
    entries += contest.random
    table: dict[str, list[object]] = {
        words("table.criterion"): list(titles),
        words("table.macs"): [entry.macs for entry in entries],
    }
    for rung in contest.rungs:
        table[words(f"rung.{rung}")] = [contest.accuracy(entry, rung).value for entry in entries]
    return table


def _changes_picture(contest: Contest, rung: str, *, words: Words) -> Picture:
    fpgm = contest.entry("fpgm")
    rivals = {words(f"criterion.{name}"): contest.entry(name) for name in contest.criteria if name != "fpgm"}
    rivals |= {words("table.random_seed", seed=entry.seed): entry for entry in contest.random}
    changes = {title: contest.change(entry, fpgm, rung) for title, entry in rivals.items()}
    return Picture("changes", figures.changes_figure(changes, words),
                   words("cost.changes", rung=words(f"rung.{rung}")))  # fmt: skip


def _contest_says(network: Network, contest: Contest, *, rung: str, words: Words) -> list[str]:
    return [
        _macs_say(network, contest, words=words),
        *_changes_say(contest, rung, words=words),
        _leaders_say(contest, rung, words=words),
        _control_says(contest, rung, words=words),
        _rungs_say(contest, words),
    ]


def _macs_say(network: Network, contest: Contest, *, words: Words) -> str:
    entries = [*(contest.entry(name) for name in contest.criteria), *contest.random]
    low, high = (pick(entry.macs for entry in entries) for pick in (min, max))
    dense = network.dense_cost.macs
    return words("cost.equal", macs=low, dense=dense) if low == high \
        else words("cost.nearly", low=low, high=high, dense=dense)  # fmt: skip


def _changes_say(contest: Contest, rung: str, *, words: Words) -> list[str]:
    """Each other criterion against FPGM: ahead or behind only where the paired interval excludes 0."""
    sentences = []
    for name in contest.criteria:
        if name != "fpgm":
            change = contest.change(contest.entry(name), contest.entry("fpgm"), rung)
            kind = "tie" if not change.excludes_zero else "ahead" if change.value > 0 else "behind"
            points = change.told(-100 if kind == "behind" else 100)
            sentences.append(words(f"cost.{kind}", rung=words(f"rung.{rung}"), name=words(f"criterion.{name}"),
                                   change=points))  # fmt: skip
    return sentences


def _leaders_say(contest: Contest, rung: str, *, words: Words) -> str:
    """Which criterion is better than every other on a rung, if one is."""
    leaders = [words(f"criterion.{name}") for name in contest.ranking(rung).leaders]
    title = words(f"rung.{rung}")
    if len(leaders) == 1:
        return words("cost.leader", rung=title, name=leaders[0])
    return words("cost.no_leader", rung=title, names=", ".join(leaders))


def _control_says(contest: Contest, rung: str, *, words: Words) -> str:
    """How many random draws FPGM is better than; to be no better than half of them is to fail the control."""
    changes = contest.against_random("fpgm", rung)
    above = sum(change.low > 0 for change in changes)
    below = sum(change.high < 0 for change in changes)
    name = "cost.control" if 2 * above > len(changes) else "cost.fails"
    return words(name, rung=words(f"rung.{rung}"), seeds=len(changes), above=above, below=below,
                 rest=len(changes) - above - below)  # fmt: skip


def _rungs_say(contest: Contest, words: Words) -> str:
    """The gap between the first and the last rung beside the largest gap between criteria on one."""
    first, last = contest.rungs[0], contest.rungs[-1]
    low, high = (contest.accuracy(contest.entry("fpgm"), rung).value for rung in (first, last))
    gaps = []
    for rung in contest.rungs:
        accuracies = [contest.accuracy(contest.entry(name), rung).value for name in contest.criteria]
        gaps.append(max(accuracies) - min(accuracies))
    return words("cost.rungs", first=words(f"rung.{first}"), last=words(f"rung.{last}"), low=low, high=high,
                 gap=max(gaps) * 100)  # fmt: skip
