"""Whose turn it is among measurements, in simulated time, and when one has news."""

from types import SimpleNamespace

import pytest

from pages.ui.panels import live_bars
from pages.ui.session.worker import Turns


def finished_within(patience, rate, *, seconds=120.0, first=0.2, steps=10, step=0.15):
    """The share of measurements that come to their end while their askers look, in simulated time.

    Every `1 / rate` seconds one is asked for; its first figure takes `first` seconds, the rest `steps` times `step`;
    after `patience` seconds its asker asks for something else. Also the longest wait for a first figure.
    """
    turns, now, jobs, asked, finished, firsts = Turns(), 0.0, [], 0, 0, []
    while now < seconds:
        while asked <= now * rate:
            jobs.append(SimpleNamespace(begun=asked / rate, left=steps, has_news=False, long=False))
            asked += 1
        jobs = [job for job in jobs if now - job.begun < patience and job.left]
        if not jobs:
            now += 0.01
            continue
        job = turns.choose(jobs, (), {id(job): 1 for job in jobs})
        is_first, took = not job.has_news, step if job.has_news else first
        now += took
        turns.spent(job, took, is_first=is_first)
        job.has_news = True
        if is_first:
            firsts.append(now - job.begun)
        else:
            job.left -= 1
            finished += job.left == 0 and now - job.begun < patience
    return finished / asked, max(firsts)


@pytest.mark.parametrize(("rate", "least"), [(0.3, 0.95), (0.5, 0.9), (0.8, 0.4), (1.0, 1 / 3), (1.2, 1 / 3)])
def test_under_load_a_third_of_the_measurements_come_to_their_end(rate, least):
    """Up to twice as much is asked for as can be done. Finished in the order of asking, hardly any would be in time."""
    share, first = finished_within(8.0, rate)
    assert share >= least
    assert first < 2


def test_whoever_waits_longest_is_not_forgotten():
    """One asker stays; all others ask for something else every few seconds."""
    turns, now = Turns(), 0.0
    patient = SimpleNamespace(begun=0.0, left=10, has_news=True, long=False)
    others = [SimpleNamespace(begun=0.1 * index, left=10, has_news=True, long=False) for index in range(20)]
    while patient.left and now < 60:
        job = turns.choose([patient, *others], (), dict.fromkeys(map(id, [patient, *others]), 1))
        now += 0.15
        turns.spent(job, 0.15, is_first=False)
        job.left -= 1
        others = [other for other in others if other.left]
        others += [SimpleNamespace(begun=now, left=10, has_news=True, long=False)] * (20 - len(others))
    assert not patient.left
    assert now < 10


def test_what_more_sessions_ask_for_is_finished_first():
    turns = Turns()
    jobs = [SimpleNamespace(begun=float(index), has_news=True, long=False) for index in range(5)]
    assert turns.choose(jobs, (), {id(job): 2 if job is jobs[2] else 1 for job in jobs}) is jobs[2]


def waiting(number, *, has_news=False):
    return [SimpleNamespace(begun=float(index), has_news=has_news, long=False) for index in range(number)]


def test_a_first_figure_is_due_after_those_before_it():
    turns, jobs = Turns(), waiting(6)
    assert [turns.due(job, jobs) for job in jobs] == [0.0] * 6, "nothing is known of how long they take"
    turns.spent(jobs[0], 0.4, is_first=True)
    turns.spent(jobs[0], 9.0, is_first=False)
    assert [turns.due(job, jobs) for job in jobs[:4]] == pytest.approx([0.0, 0.4, 0.8, 1.2])
    for _ in range(50):
        turns.spent(jobs[0], 2.0, is_first=True)
    assert turns.due(jobs[1], jobs) == pytest.approx(2.0, rel=0.02), "what steps took lately"
    assert turns.due(jobs[4], jobs) == 2.5, "some of the others may be cancelled"
    assert turns.due(jobs[4], jobs[4:]) == 0.0


def test_a_measurement_waits_while_anothers_rest_is_done():
    turns, jobs = Turns(), waiting(2, has_news=True)
    assert [turns.due(job, jobs) for job in jobs] == [0.0, 0.0]
    chosen = turns.choose(jobs, (), {id(job): 1 for job in jobs})
    other = jobs[1 - jobs.index(chosen)]
    assert (turns.due(chosen, jobs), turns.due(other, jobs)) == (0.0, 2.5)
    assert turns.due(other, [other]) == 0.0, "the other is done"


def test_the_bars_poll_when_news_is_due(monkeypatch):
    session = SimpleNamespace(measuring=SimpleNamespace(done=False), picture_is_coming=False)
    for due, waits in ((0.0, live_bars.POLL_FIRST), (1.2, 1200)):
        monkeypatch.setattr(live_bars, "device_worker", lambda due=due: SimpleNamespace(due=lambda job: due))
        assert live_bars.poll_interval(session, coming=False, waiting=True) == waits
    session.measuring.done = True
    assert live_bars.poll_interval(session, coming=False, waiting=False) == 0
