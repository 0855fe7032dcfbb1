"""The two tiers of tests: `pytest` runs the quick one, `pytest --thorough` all of them.

`seconds.json` has what every longer test took when it was last recorded (`pytest --thorough --record-seconds`, alone on
two cores). A test is thorough where that is more than LIMIT, or where it carries the marker `thorough`; what is in
REPRESENTATIVES stays quick however long it takes, so that every kind of test is in the quick tier.
"""

import json
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

LIMIT = 0.4  # seconds
RECORDED = 0.3  # seconds from which on a test is written down
SECONDS_FILE = Path(__file__).with_name("seconds.json")


def recorded(file: Path) -> dict[str, float]:
    """What tests took, by their names."""
    seconds: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return seconds


SECONDS = recorded(SECONDS_FILE)

REPRESENTATIVES = (
    # The browser: one walk through each page, one of each component, one language, one theme.
    "test_explore_live.py::test_dragging_shows_macs_at_once_and_rest_measures_the_plan_in_the_link",
    "test_frames.py::test_what_matters_is_in_sight_and_lies_on_nothing_else[1440 at 200%]",
    "test_linked.py::test_before_release_map_table_and_bar_agree_on_every_step",
    "test_many.py::test_a_start_brings_bars_then_a_first_figure_then_the_exact_one",
    "test_learn_live.py::test_next_lands_at_the_top_and_formulas_do_not_break",
    "test_open_live.py::test_a_file_that_is_none_is_refused_in_the_dialog_and_all_stays",
    "test_strangers_words.py::test_a_links_words_are_shown_as_they_are[0]",
    "test_choose_live.py::test_the_bars_ride_along_the_front",
    "test_korean.py::test_the_language_is_chosen_at_the_top_for_all_pages",
    "test_accessible.py::test_axe_finds_nothing_serious_on_any_page[dark]",
    "test_components_live.py::*",
    # Pages without a browser: each is opened, moved, measured.
    "test_solving.py::test_the_bars_move_to_what_was_solved_then_to_what_was_searched_and_undo_takes_both_back",
    "test_arriving.py::test_the_page_waits_for_the_network_of_its_link_and_then_shows_it_and_nothing_before",
    "test_recover.py::test_training_begins_with_the_repaired_network_where_that_is_wanted",
    "test_export.py::test_the_real_export_of_a_small_plan_is_prepared_to_the_end",
    "test_replaceability_view.py::test_every_layer_has_its_agreement_and_the_chosen_one_its_filters",
    "test_explore.py::test_the_first_view_is_pruned_and_shows_the_layer_where_norm_and_fpgm_disagree_most*",
    "test_explore.py::test_what_is_coloured_is_what_the_plan_prunes[fpgm_mix-resnet20-coupled]",
    # The library from its front door, and the README's ten lines.
    "test_front_door.py::test_a_network_of_ones_own_is_pruned_repaired_measured_exported_and_reloaded[Residual-coupled]",
    "test_readme.py::test_the_example_prints_what_it_says",
    "test_readme.py::test_the_commands_work[verify]",
    "test_imports.py::*",
    "test_preload.py::*",
    "test_recovered.py::*",
    # Proofs: every family once, but for those that alone take as long as all others.
    "test_proof.py::test_masked_equals_compact_and_costs_what_was_counted[[!aivw]*-mixed-inner]",
    "test_surroundings.py::test_a_segmenter_is_pruned_up_to_its_answers*",
    # Measuring, allocating, training, exporting, timing: one of each.
    "test_accuracy.py::test_dense_accuracy_is_a_plain_loops_and_fits_the_record*",
    "test_accuracy.py::test_running_counts_equal_a_plain_loop*",
    "test_sensitivity.py::test_a_sweep_resumes_where_it_stopped",
    "test_suggestion.py::test_losses_rise_from_zero_and_are_kept*",
    "test_allocation_commands.py::test_bench_rates",
    "test_trainer.py::test_every_schedule_learns_and_ends_pruned[soft]",
    "test_checkpoint.py::test_a_killed_run_resumes_to_the_same_curve*",
    "test_outcome.py::test_what_is_written_evaluates_to_what_the_record_says*",
    "test_networks.py::test_pt2_and_onnx_answer_for_any_batch_size*",
    "test_bundle.py::test_every_artefact_is_there_and_the_manifest_names_it",
    "test_tally.py::test_what_three_processes_count_at_once_is_all_counted",
)


def is_thorough(nodeid: str) -> bool:
    """Whether a test is left to the thorough tier by what it took."""
    return SECONDS.get(nodeid, 0.0) > LIMIT and not is_representative(nodeid)


def is_representative(nodeid: str) -> bool:
    """Whether a test stays quick however long it takes."""
    return any(fnmatchcase(nodeid, pattern_of(representative)) for representative in REPRESENTATIVES)


def pattern_of(representative: str) -> str:
    """The shell's pattern of a representative: its first bracket is the name's own."""
    return f"*/{representative.replace('[', '[[]', 1)}"


def record(seconds: Mapping[str, float], collected: Collection[str]) -> None:
    """Write down what tests took, in place of what they took before; those that are gone go."""
    known = {name: value for name, value in SECONDS.items() if name in collected and name not in seconds}
    new = {name: round(value, 1) for name, value in seconds.items() if value >= RECORDED}
    SECONDS_FILE.write_text(
        json.dumps(known | new, indent=0, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
