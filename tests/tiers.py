"""The two tiers of tests: `pytest` runs the quick one, `pytest --thorough` all of them.

A test is thorough where it carries the marker `thorough`, or where this table says so. The table's keys are test
functions; their patterns (the shell's, of what stands between the brackets of a test's name) are the members of the
family that stay quick. Without patterns none does. Every family of networks and every coupling stays in some quick test
of what depends on it.
"""

from fnmatch import fnmatchcase

ALL: tuple[str, ...] = ()  # the whole function is thorough

QUICK_MEMBERS: dict[str, tuple[str, ...]] = {
    # Proofs: every family once, and every coupling and rate on a small network.
    "test_proof.py::test_masked_equals_compact_and_costs_what_was_counted": ("*-mixed-inner", "resnet20-*"),
    "test_proof.py::test_trained_networks_name_the_same_class_for_every_image": ("resnet56-coupled",),
    "test_proof.py::test_torchvision_networks_name_the_same_class_for_photographs": ("resnet18", "shufflenet*"),
    "test_proof.py::test_fvcore_counts_the_same_in_the_compact_network": ("*-coupled",),
    "test_compact.py::test_compact_aligned_and_folded_equal_masked": (
        "resnet20-*",
        "vgg16*-inner",
        "resnet18-inner",
        "densenet*-inner",
        "mobilenet*-inner",
        "shufflenet*-inner",
    ),
    "test_compact.py::test_equal_at_every_rate": ("*-fpgm_mix-0.5", "*-random-1.0"),
    "test_compact.py::test_nothing_pruned_equals_dense": ("*-coupled",),
    "test_compact.py::test_a_training_step_lowers_the_loss": ("inner",),
    "test_compact.py::test_its_file_is_smaller_and_reads_back": ("inner",),
    "test_masked.py::test_removed_channels_are_exactly_zero": ("resnet20-*", "*-inner"),
    "test_masked.py::test_the_dense_network_is_not_touched": ("fpgm", "fpgm_mix"),
    "test_masked.py::test_nothing_pruned_equals_dense_exactly": ("*-inner",),
    "test_surroundings.py::test_a_detector_is_pruned_in_its_backbone_and_its_heads_are_locked": ("fasterrcnn*",),
    "test_surroundings.py::test_a_segmenter_is_pruned_up_to_its_answers": ("lraspp*",),
    "test_network.py::test_a_grouped_networks_masks_can_be_held": ALL,
    "test_segments.py::test_parts_one_after_another_are_the_whole": ("*-inner", "resnet20-*"),
    "test_networks.py::test_every_familys_python_file_rebuilds_it": ("squeezenet*", "densenet*", "mobilenet*"),
    "test_networks.py::test_the_python_file_rebuilds_the_network_without_this_library": ("coupled",),
    "test_networks.py::test_pt2_and_onnx_answer_for_any_batch_size": ("resnet20-*",),
    "test_bundle.py::test_the_accuracy_of_a_file_is_that_of_the_pruned_network": ALL,
    "test_bundle.py::test_the_same_plan_and_weights_give_the_same_bytes": ALL,
    "test_front_door.py::test_a_network_of_ones_own_is_pruned_repaired_measured_exported_and_reloaded": (
        "Residual-*",
        "*-coupled",
    ),
    "test_plans.py::test_torch_pruning_prunes_as_many_filters_of_every_layer": ("resnet18-inner", "mobilenet_v3*"),
    "test_plans.py::test_what_torch_pruning_prunes_otherwise_is_not_written": ("resnet20-*",),
    "test_operations.py::test_every_form_computes_what_silencing_computes": ("*-0.5",),
    "test_operations.py::test_what_was_once_wrong": ("*-random",),
    "test_operations.py::test_odd_plans": ("*-1", "*-3"),
    "test_fusing.py::test_networks_compute_the_same": ("resnet20-*", "*-inner"),
    "test_cost.py::test_macs_are_the_nonzero_weights_times_positions": ("*-inner", "resnet20-*"),
    "test_cost.py::test_cost_is_what_autograd_finds_alive": ("*-coupled",),
    # Measurements: one of each kind.
    "test_accuracy.py::test_what_is_remembered_of_earlier_plans_changes_no_measurement": ("inner-float32",),
    "test_accuracy.py::test_running_counts_equal_a_plain_loop": ("1-*", "3-*-coupled"),
    "test_sensitivity.py::test_a_damaged_record_is_measured_again": ("None",),
    "test_sensitivity.py::test_other_arguments_are_another_sweep": ALL,
    "test_sensitivity.py::test_the_criterion_and_the_coupling_are_the_plans_and_its_rates_are_not": ALL,
    "test_contest.py::test_hits_are_the_evaluators": ALL,
    "test_bench.py::test_a_bench_times_both_sides": ("changed", "evaluation", "limit"),
    # Allocation: every allocator under one coupling, one loss, one of Torch-Pruning's rankings.
    "test_solver.py::test_every_allocator_meets_the_goal_to_within_one_filter": ("coupled-*", "*-solved"),
    "test_suggestion.py::test_at_most_a_loss": ALL,
    "test_rivals.py::test_torch_pruning_cuts_what_was_asked": ("tp_fpgm_global",),
    "test_ranking.py::test_a_study_at_equal_macs": ALL,
    # Recovery and training.
    "test_refit.py::test_every_rung_is_measured": ("as_is", "recalibrated"),
    "test_refit.py::test_masked_and_compact_answer_alike": ("inner",),
    "test_moments.py::test_other_families": ALL,
    "test_block_obs.py::test_standing_in_by_brute_force": ALL,
    "test_block_obs.py::test_greedy_takes_the_cheapest_next_one": ALL,
    "test_trainer.py::test_every_schedule_learns_and_ends_pruned": ("soft",),
    "test_checkpoint.py::test_a_killed_run_resumes_to_the_same_curve": ("finetune-0.9",),
    "test_memory.py::test_freed_memory_is_used_again_without_asking_the_kernel": ALL,
    "test_trainer.py::test_held_filters_are_zero_after_every_step": ("hard",),
    "test_trainer.py::test_the_same_seed_gives_the_same_network": ALL,
    "test_trainer.py::test_the_loaded_network_is_not_touched": ALL,
    "test_reproduce.py::test_the_compact_network_trains_at_the_dense_runs_compute": ALL,
    # UMAP compiles for a quarter of a minute when it is first used.
    "test_projections.py::test_umap_is_the_same_for_the_same_seed": ALL,
    # The command line: one command of each room; what a command computes has tests of its own.
    "test_readme.py::test_the_commands_work": ("models", "layers", "evaluate", "verify"),
    "test_command_line.py::test_as_a_program": ALL,
    "test_imports.py::test_importing_is_light": ("fpgm_core.__main__",),
    "test_torchvision_import.py::test_operators_are_declared_exactly_where_torchvisions_own_do_not_load": (
        "matching*",
    ),
    "test_command_line.py::test_a_plan_of_what_units_bear_alone": ALL,
    "test_command_line.py::test_latency_in_every_runtime": ALL,
    "test_command_line.py::test_export_for_people_names_files_and_what_was_left_out": ALL,
    "test_recovery_commands.py::test_repair": ALL,
    "test_recovery_commands.py::test_export_carries_repaired_weights": ALL,
    "test_recovery_commands.py::test_bad_input_is_one_line": ("arguments[!35]-*",),
    "test_packaging.py::test_a_missing_extra_is_named_in_one_line": ("plotly-*", "umap-*", "onnx-*"),
    "test_contest_command.py::test_the_json_and_the_table_say_the_same": ALL,
    "test_training_commands.py::test_train_while_pruning_leaves_a_plan_for_its_weights": ("soft",),
    "test_training_commands.py::test_train_goes_on_from_its_folder_and_refuses_another_runs": ALL,
    "test_training_commands.py::test_recover_of_a_plan_file_takes_a_seed_of_its_own": ALL,
    # Pages and the browser: each page is opened, moved and measured once.
    "test_explore.py::test_every_rung_of_the_ladder_is_measured_as_such": ALL,
    "test_explore.py::test_a_criterion_that_needs_images_is_moved_to_when_its_scores_are_made": ALL,
    "test_replaceability_view.py::test_the_refit_cost_view_says_where_a_layer_has_none": ALL,
    "test_sensitivity_page.py::test_a_sweep_is_stopped_kept_and_resumed": ALL,
    "test_replaceability_view.py::test_damage_is_drawn_beside_the_bars_as_predicted": ALL,
    "test_learn.py::test_every_step_opens_by_its_link_in_every_language": ("*-en", "plane-ko"),
    "test_explore_live.py::test_a_place_on_a_damage_strip_is_a_rate": ALL,
    "test_explore_live.py::test_a_new_move_cancels_the_measurement_under_way": ALL,
    "test_explore_live.py::test_a_filter_is_locked_by_a_click": ALL,
    "test_export_live.py::test_a_plan_is_exported_and_the_zip_says_what_the_page_says": ALL,
    "test_learn_live.py::test_a_teachers_link_opens_a_bare_step_elsewhere": ALL,
    "test_learn_live.py::test_arrow_keys_turn_the_page_but_not_from_a_point_or_a_slider": ALL,
    "test_learn_live.py::test_predict_before_reveal_in_korean": ALL,
    "test_many.py::test_results_never_mix_and_equal_plans_have_equal_figures": ALL,
    "test_sensitivity_live.py::test_a_click_on_the_map_sets_the_bar": ALL,
}


def function_of(nodeid: str) -> tuple[str, str]:
    """A test's key in the table, and what stands between its brackets."""
    name, _, member = nodeid.rpartition("/")[2].partition("[")
    return name, member.removesuffix("]")


def is_thorough(nodeid: str) -> bool:
    """Whether the table leaves the test to the thorough tier."""
    name, member = function_of(nodeid)
    return name in QUICK_MEMBERS and not any(fnmatchcase(member, pattern) for pattern in QUICK_MEMBERS[name])
