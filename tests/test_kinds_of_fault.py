"""Kinds of fault that were seen, and the other members of each kind that were looked for and found, with their tests.

A fault is mended as a kind: beside what was seen first stand cases that the same cause would spoil. `file::test[case]`
names one case of a test with many. Faults of the store itself are listed in `store/test_faults.py`.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SAME, CODE, LAYERS, OUTPUTS, PROBE = (
    "test_same_work.py",
    "backbones/test_code.py",
    "backbones/test_layers.py",
    "backbones/test_outputs.py",
    "backbones/test_probe.py",
)
CLUSTER, SCHEDULER = "extraction/test_cluster.py", "extraction/test_scheduler.py"
DECODING, IMAGES, CAUSE = "data/test_decoding.py", "test_images.py", "test_true_cause.py"
AROUND, MEMORY = "test_surroundings.py", "test_memory.py"
OUT, ZERO, OPTIONS, YAML, PROGRESS = (
    "test_output.py",
    "test_step_zero.py",
    "test_options.py",
    "test_yaml.py",
    "test_progress.py",
)
EXTRACTED = f"{SAME}::test_an_extraction_with_one_other_input_is_other_work_or_gives_the_same_bytes"
FITTED = f"{SAME}::test_a_fit_with_one_other_input_is_other_work_or_gives_the_same_bytes"
MANY = f"{SAME}::test_a_campaign_on_changed_data_mixes_no_rows"
PREDICTED = f"{SAME}::test_predictions_with_one_other_input_are_refused"
SEEN = f"{DECODING}::test_the_tokens_of_a_file_are_those_of_the_picture_that_is_seen"
REFUSED = f"{DECODING}::test_what_would_not_enter_as_it_is_seen_is_refused_with_its_cause"
TOLD = f"{CAUSE}::test_the_true_cause_is_told"
BAD_OPTION = f"{OPTIONS}::test_options_that_cannot_be_are_refused"
NO_FOLDER = f"{OUT}::test_a_folder_that_cannot_be_is_refused_before_anything_is_read"

KINDS: dict[str, dict[str, str]] = {
    "other work is taken for the same": {
        # seen first
        "stimulus ids change places, and the run is kept": f"{FITTED}[dataset: ids of their neighbours]",
        "a worker serves the network of exchanged weights from memory": (
            f"{CLUSTER}::test_weights_that_are_exchanged_while_a_worker_lives_are_the_ones_that_are_used"
        ),
        "an edited forward resumes the cache of the old one": f"{CODE}::test_an_edit_of_the_code_is_another_extraction",
        # found since
        "positions of voxels": f"{FITTED}[dataset: one position]",
        "the planted truth": f"{FITTED}[dataset: one truth]",
        "the order of the rows": f"{FITTED}[dataset: another order]",
        "another picture under an id of the cache": (
            f"{SAME}::test_other_pictures_under_the_ids_of_the_cache_are_refused"
        ),
        "rows of a campaign on other responses": f"{MANY}[responses]",
        "rows of a campaign on another cache of the same name": (
            f"{SAME}::test_a_campaign_on_another_cache_of_the_same_name_is_refused"
        ),
        "voxels of a run with predictions": f"{PREDICTED}[the voxels]",
        "a checkpoint of other inputs beside a fit": (
            f"{SAME}::test_a_fit_that_does_not_resume_from_a_checkpoint_beside_it_says_so"
        ),
        "a function in another file that forward calls": (
            f"{CODE}::test_an_edit_of_the_code_is_another_extraction[a function in another file]"
        ),
        "a forward that is patched": (
            f"{CODE}::test_an_edit_of_the_code_is_another_extraction[a forward that is patched on an instance]"
        ),
        "the code of the preprocessing": f"{CODE}::test_the_source_of_the_preprocessing_is_part",
        "a network that gives other tokens each time": (
            f"{CODE}::test_a_network_whose_tokens_are_not_the_same_each_time_is_refused"
        ),
        "code that a live worker has imported before": (
            f"{CLUSTER}::test_edited_code_is_not_run_by_workers_that_have_the_old_one"
        ),
        "work of an earlier version": (
            f"{SAME}::test_a_run_of_an_earlier_version_is_told_by_what_it_did_not_write_down"
        ),
    },
    "jobs get in each other's way": {
        # seen first
        "a lease of a machine that died": (
            "extraction/test_leases.py::test_a_lease_of_a_machine_that_died_is_taken_over_in_time"
        ),
        "the same on dask workers": f"{CLUSTER}::test_shards_of_a_machine_that_is_lost_are_taken_over",
        "two extractions on one scheduler": f"{CLUSTER}::test_jobs_on_one_scheduler_do_each_their_own",
        # found since
        "a machine that lives, however slow": (
            "extraction/test_leases.py::test_a_machine_that_lives_is_waited_for_however_long_it_takes"
        ),
        "a watcher that slept": (
            "store/test_lease.py::test_a_watcher_that_was_asleep_or_hung_does_not_take_all_that_time_for_the_age_of_a_lease"
        ),
        "a clock that is set": (
            "store/test_lease.py::test_a_clock_that_is_set_meanwhile_makes_no_living_process_a_dead_one"
        ),
        "a process of another user": (
            "store/test_lease.py::test_a_process_that_this_user_cannot_see_is_not_taken_for_dead"
        ),
        "a client that dies": f"{CLUSTER}::test_a_client_that_dies_leaves_nothing_behind",
    },
    "what is stored is not what the layer gave": {
        # seen first
        "an output that is changed in place afterwards": (
            f"{OUTPUTS}::test_what_is_stored_is_the_output_as_the_module_returned_it"
        ),
        "a star that crosses dots": f"{LAYERS}::test_a_star_is_one_level_and_two_are_any_number",
        "text tokens of a block that returns text and image": (
            f"{OUTPUTS}::test_an_output_with_several_is_a_question_that_lists_them"
        ),
        "tokens in another order": f"{PROBE}::test_a_foreign_network_is_right_or_refused_in_words",
        # found since
        "a map that is changed in place": f"{OUTPUTS}::test_a_map_that_is_changed_in_place_is_stored_as_it_was",
        "tokens that are not finite": f"{OUTPUTS}::test_tokens_that_are_not_finite_are_refused_before_any_work",
        "a preprocessing that turns the image": f"{PROBE}::test_a_preprocessing_that_turns_the_image_is_refused",
        "one layer of several in another order": (
            f"{PROBE}::test_a_network_in_which_only_one_layer_is_reordered_is_refused_and_its_others_are_not"
        ),
        "tokens that do not depend on the image": f"{PROBE}::test_tokens_that_do_not_depend_on_the_image_are_refused",
    },
    "what enters the network is not what the file shows": {
        # seen first
        "hidden colours under transparent pixels": f"{SEEN}[RGBA with other hidden colours]",
        "16 bits cut to 8": f"{REFUSED}[RGB PNG of 16 bits]",
        "a phone's JPEG": f"{SEEN}[a phone's JPEG with a second picture]",
        "hidden files beside the images": f"{IMAGES}::test_hidden_files_beside_the_images_change_nothing",
        "damage inside a file": f"{DECODING}::test_a_png_with_a_flipped_bit_anywhere_is_refused",
        # found since
        "transparent levels of grey": f"{SEEN}[grey of 2 bits with a transparent level]",
        "transparency of a palette": f"{SEEN}[palette with another hidden colour]",
        "16 bits of a PPM": f"{REFUSED}[RGB PPM of 16 bits]",
        "a TIFF of numbers with a sign": f"{REFUSED}[TIFF of numbers with a sign]",
        "a JPEG with an early end": f"{REFUSED}[JPEG with a premature end]",
        "a JPEG without a restart marker": f"{REFUSED}[JPEG without a restart marker]",
        "a limit that other code has set": f"{DECODING}::test_a_limit_that_other_code_has_set_is_named",
        "names in any script": f"{IMAGES}::test_pictures_are_named_in_any_script",
        "suffixes in capitals": f"{IMAGES}::test_a_suffix_in_capitals_is_read",
    },
    "the user's surroundings steer the result": {
        # seen first
        "a notebook's plotting backend, and style files": f"{AROUND}::test_pictures_are_the_same_in_any_style",
        "encodings of the output, a closed pipe": f"{AROUND}::test_a_fit_is_the_same_in_any_environment",
        "a tilde": f"{AROUND}::test_a_home_is_meant_by_a_tilde_and_any_name_will_do",
        "memory of a container": f"{MEMORY}::test_the_limit_of_a_group_above",
        "the import changes the environment": f"{AROUND}::test_the_import_leaves_the_process_alone",
        # found since
        "closed streams": f"{AROUND}::test_closed_streams_change_nothing",
        "a full disk behind the output": f"{AROUND}::test_a_full_disk_behind_standard_output_is_told_after_the_work",
        "what the caller has set in torch": f"{AROUND}::test_what_the_caller_has_set_in_torch_changes_nothing",
        "what the caller has set in matplotlib": (
            f"{AROUND}::test_pictures_are_the_same_whatever_the_calling_script_has_set"
        ),
        "a working folder and a home that cannot be written": (
            f"{AROUND}::test_workers_need_nothing_of_the_working_folder_and_the_home"
        ),
        "cores of a container": f"{MEMORY}::test_cores_of_a_container",
        "signals of the calling script": (
            f"{AROUND}::test_signals_that_are_ignored_stay_so_and_threads_can_run_commands"
        ),
    },
    "found out after the work, or never": {
        # seen first
        "a link, a mount point or '.' as --out": f"{OUT}::test_every_stage_goes_into_mount_points",
        "two equal fits at once": f"{OUT}::test_of_two_equal_fits_at_once_the_slower_keeps_the_other",
        "constant responses": f"{ZERO}::test_constant_responses_are_refused_by_the_command",
        "one test image": f"{ZERO}::test_parts_with_one_image_are_refused",
        "missing weights after all images": f"{ZERO}::test_an_extraction_checks_everything_cheap_before_the_images",
        "a wrong scheduler": f"{SCHEDULER}::test_a_wrong_scheduler_is_refused_within_seconds",
        "options that contradict each other": f"{BAD_OPTION}[workers beside a scheduler]",
        "a key twice": f"{YAML}::test_a_key_twice_deep_in_a_spec_is_refused_by_the_command",
        "a number without a dot": f"{YAML}::test_a_learning_rate_without_a_dot_is_a_number",
        "the memory of a device": f"{ZERO}::test_memory_that_runs_out_within_a_fit_is_one_message_and_loses_nothing",
        "the rate after a resume": f"{PROGRESS}::test_a_rate_after_a_resume_is_that_of_this_process",
        "work within work": f"{PROGRESS}::test_work_within_work_ends",
        "an npz named npy": f"{TOLD}[responses in an npz]",
        "a Git LFS pointer": f"{TOLD}[weights as a Git LFS pointer]",
        "a cache of git-annex links": f"{TOLD}[a cache's header as a git-annex link]",
        # found since
        "a name too long": f"{NO_FOLDER}[a name too long]",
        "a link to itself": f"{NO_FOLDER}[a link to itself]",
        "a publication that was killed": f"{OUT}::test_a_publication_that_was_killed_is_finished_by_the_next",
        "no voxels": f"{ZERO}::test_a_dataset_without_voxels_is_refused",
        "scores that are not finite": f"{ZERO}::test_scores_that_are_not_finite_are_null_and_unknown",
        "a seed of too many digits": f"{BAD_OPTION}[a seed of too many digits]",
        "memory without end": f"{BAD_OPTION}[memory without end]",
        "an empty scheduler": f"{BAD_OPTION}[an empty scheduler]",
        "a pool after a fork": f"{PROGRESS}::test_a_forked_process_has_threads_of_its_own",
        "numbers that JSON has not": (f"{YAML}::test_numbers_that_json_has_not_are_refused_deep_in_an_architecture"),
        "a ceiling whose link leads nowhere": f"{TOLD}[a ceiling as a git-annex link]",
        "a run.json that is a list": f"{TOLD}[run.json that is a list]",
        "responses that float32 cannot hold": f"{CAUSE}::test_responses_that_float32_cannot_hold_are_refused",
        "workers with another bddn": f"{SCHEDULER}::test_workers_have_the_same_bddn",
        "workers that do not see the files": f"{SCHEDULER}::test_a_worker_on_a_machine_without_the_files_is_told",
    },
}
NAMED = [(kind, member) for kind, members in KINDS.items() for member in members]


@cache
def names_and_text(file: str) -> dict[str, str]:
    """Names of the tests in a file, each with the text of the file."""
    text = (TESTS / file).read_text(encoding="utf-8")
    return {node.name: text for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("kind", "member"), NAMED)
def test_every_member_of_a_kind_has_a_test(kind: str, member: str) -> None:
    file, _, rest = KINDS[kind][member].partition("::")
    name, bracket, case = rest.partition("[")
    found = names_and_text(file)
    assert name.startswith("test_")
    assert name in found
    if bracket:
        tried = {case.removesuffix("]"), case.removesuffix("]").removeprefix("dataset: ")}
        assert any(f'"{words}"' in found[name] for words in tried), case
