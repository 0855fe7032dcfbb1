"""Batches side by side: order, errors, and that nobody else's threads change."""

import threading

import pytest
import torch

from fpgm_core.runtime.cores import alone, each, split, workers

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_order_each_from_a_core_of_its_own(threads, count):
    threads(count)
    found = each(lambda piece: (piece, torch.get_num_threads(), threading.get_ident()), list(range(7)), CPU)
    assert [piece for piece, _, _ in found] == list(range(7))
    assert {alone for _, alone, _ in found} == {1}
    assert len({thread for _, _, thread in found}) <= count
    assert torch.get_num_threads() == count


def test_threads_yet_to_come_keep_what_was_set(threads):
    threads(2)
    each(lambda piece: piece, [1, 2], CPU)
    told = []
    late = threading.Thread(target=lambda: told.append(torch.get_num_threads()))
    late.start()
    late.join()
    assert told == [2]


def test_they_run_at_the_same_time(threads):
    threads(2)
    together = threading.Barrier(2, timeout=30)
    assert sorted(each(lambda _: together.wait(), [0, 1], CPU)) == [0, 1]


@pytest.mark.parametrize("count", [1, 3])
def test_alone_is_one_thread_and_nobody_elses_changes(threads, count):
    threads(count)
    assert alone(torch.get_num_threads) == 1
    assert torch.get_num_threads() == count
    with pytest.raises(ValueError, match="in vain"):
        alone(lambda: [].index("in vain"))


def test_alone_within_a_piece_is_where_that_is(threads):
    threads(2)
    here = each(lambda _: (threading.get_ident(), alone(threading.get_ident)), [0, 1, 2], CPU)
    assert all(piece == inner for piece, inner in here)


def test_an_error_is_raised(threads):
    threads(2)

    def fails(piece):
        if piece == 3:
            raise ValueError("piece 3")
        return piece

    with pytest.raises(ValueError, match="piece 3"):
        each(fails, list(range(5)), CPU)
    assert each(fails, [0, 1], CPU) == [0, 1]


def test_elsewhere_than_on_a_cpu_there_is_one_queue(threads):
    threads(4)
    assert workers(torch.device("cuda")) == 1
    here = threading.get_ident()
    assert each(lambda _: threading.get_ident(), [0, 1], torch.device("cuda")) == [here, here]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [(5, 15), (15, 25), (25, 28)]), (4, [(5, 11), (11, 17), (17, 23), (23, 28)])]
)
def test_pieces_are_no_larger_than_asked_and_enough_for_every_core(threads, count, expected):
    threads(count)
    assert split(5, 28, 10, CPU) == expected
