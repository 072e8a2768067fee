"""What breaks in systems like this one, fault by fault, and the test that keeps it from breaking here."""

import ast
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import crc32c
import numcodecs
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import quick_commands
from bddn.backbones.registry import open_backbone
from bddn.cli import app
from bddn.data.dataset import Stimuli
from bddn.data.splits import split_by_id
from bddn.errors import BackboneError, BddnError, CorruptStoreError, DataError, IncompleteStoreError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import CacheSpec, FitSpec, WeightsSpec
from bddn.store.check import verify
from bddn.store.reader import Cache
from store.stores import SHARDS, filled_with, layout_of, read, seal_again, tokens, write, writer
from test_extract import files, watch

TESTS = Path(__file__).parent.parent

COVERED = {
    "a store of an earlier version": "store/test_golden.py::test_a_store_of_this_format_is_read_as_it_was_written",
    # processes
    "killed at any moment of an extraction": "store/test_kill.py::test_a_killed_extraction_goes_on_to_the_same_bytes",
    "killed at any single operation on a file": (
        "store/test_failures.py::test_a_job_that_is_killed_at_any_operation_is_gone_on_with_to_the_same_bytes"
    ),
    "killed between sealing and tidying up": "test_extract.py::test_an_interrupt_just_after_sealing_costs_nothing",
    "a worker of a cluster is killed": (
        "extraction/test_cluster.py::test_workers_are_killed_and_machines_lost_while_two_jobs_share_a_scheduler"
    ),
    "asked to end: SIGTERM, SIGUSR1, SIGINT": (
        "store/test_faults.py::test_a_signal_ends_with_its_code_and_the_way_to_go_on_and_gives_the_shard_back"
    ),
    "asked to end a second time": "store/test_faults.py::test_a_second_signal_ends_at_once_and_the_store_can_go_on",
    "two jobs on one store": (
        "store/test_kill.py::test_two_extractions_at_once_share_the_work_and_write_the_same_bytes"
    ),
    "two jobs seal at once": "store/test_writer.py::test_two_jobs_may_seal_at_once",
    "one job seals and sweeps while another writes": (
        "store/test_kill.py::test_a_write_survives_the_sweep_of_another_job"
    ),
    "two processes want one shard at the same instant": (
        "store/test_lease.py::test_of_two_that_take_at_once_one_gets_it"
    ),
    "a machine dies with a lease": (
        "extraction/test_leases.py::test_a_lease_of_a_machine_that_died_is_taken_over_in_time"
    ),
    "a job is stopped and not ended": (
        "store/test_lease.py::test_a_job_of_this_machine_that_was_stopped_and_not_ended_gives_way_like_one_of_another"
    ),
    "a watcher sleeps or hangs": (
        "store/test_lease.py::test_a_watcher_that_was_asleep_or_hung_does_not_take_all_that_time_for_the_age_of_a_lease"
    ),
    "the clock is set while a process runs": (
        "store/test_lease.py::test_a_clock_that_is_set_meanwhile_makes_no_living_process_a_dead_one"
    ),
    "processes of other users are hidden": (
        "store/test_lease.py::test_a_process_that_this_user_cannot_see_is_not_taken_for_dead"
    ),
    "a container with process numbers of its own": (
        "store/test_lease.py::test_a_process_in_another_container_of_this_machine_grows_old_like_one_of_another"
    ),
    "a job taken for dead comes back": (
        "store/test_lease.py::test_a_job_that_was_taken_for_dead_writes_nothing_and_commits_nothing"
    ),
    "what dead processes left, with numbers of processes used again": (
        "store/test_lease.py::test_another_process_that_was_given_the_number_of_a_dead_one_holds_nothing"
    ),
    "half-written files of killed processes": (
        "store/test_writer.py::test_leftovers_of_a_killed_writer_do_no_harm_and_are_swept"
    ),
    # disks
    "any write, flush, rename, read or delete fails": (
        "store/test_failures.py::"
        "test_any_operation_that_fails_is_an_error_of_ours_and_the_next_job_ends_with_the_same_bytes"
    ),
    "fsync fails": "test_extract.py::test_a_disk_that_fails_at_any_point_is_an_error_and_is_survived",
    "the disk becomes full": (
        "store/test_failures.py::test_a_full_disk_is_named_with_its_free_bytes_and_the_job_goes_on_when_there_is_room"
    ),
    "the disk is too small from the start": "test_extract.py::test_a_disk_too_small_is_refused_at_the_start",
    "a limit on the size of files": (
        "store/test_failures.py::"
        "test_a_file_that_the_system_cuts_is_not_kept_and_the_error_names_what_it_needs_and_what_is_free"
    ),
    "no more files may be opened": "store/test_faults.py::test_too_few_open_files_are_an_error_and_are_survived",
    "the mount vanishes": "store/test_writer.py::test_a_vanished_store_is_not_recreated_by_a_write",
    "a folder that may not be written": "store/test_writer.py::test_a_folder_that_may_not_be_written_is_refused",
    # files of a store
    "a shard is missing": "store/test_reader.py::test_every_deleted_file_is_found_at_once",
    "a file of 0 bytes, or cut anywhere": "store/test_reader.py::test_a_file_cut_short_is_found_at_once",
    "a flipped byte, zeros, bytes at the end, files swapped, files of another store": (
        "store/test_corruption.py::test_reading_finds_every_corruption_where_plain_zarr_would_not"
    ),
    "a flipped bit in any byte of a shard": "store/test_corruption.py::test_every_byte_of_a_shard_counts",
    "all bad files are to be listed": "store/test_faults.py::test_verify_lists_every_bad_file_and_no_other",
    "chunks of a shard are absent or no chunks": (
        "store/test_reader.py::test_a_file_that_is_no_chunk_is_an_error_of_ours_though_it_was_sealed"
    ),
    "no checksums, other codecs, other shape, type or fill value in the metadata": (
        "store/test_reader.py::test_metadata_that_does_not_describe_what_the_header_does_is_refused_at_once"
    ),
    "metadata that are empty, cut or nested without end": (
        "store/test_reader.py::test_metadata_that_is_no_json_object_is_refused_at_once"
    ),
    "metadata of gigabytes": "store/test_manifest.py::test_a_manifest_of_boundless_size_is_not_read_into_memory",
    "a chunk of bytes that claims to be gigabytes": (
        "store/test_faults.py::test_a_chunk_of_another_size_is_refused_without_its_memory_though_it_was_sealed"
    ),
    "a damaged record": "store/test_writer.py::test_a_damaged_record_is_none",
    "a shard without its record": "store/test_writer.py::test_a_shard_without_its_record_is_written_again",
    "a recorded shard that is damaged before sealing": (
        "store/test_writer.py::test_a_recorded_shard_that_was_damaged_since_is_written_again"
    ),
    "a manifest that names files outside the store": "store/test_manifest.py::test_an_edited_seal_is_found",
    "a layer name that leads out of the store": (
        "store/test_layout.py::test_a_layer_name_that_is_no_safe_folder_name_is_refused"
    ),
    "a file of the store is a link, a pipe or a folder": (
        "store/test_reader.py::test_a_file_that_became_a_link_a_pipe_or_a_folder_is_refused_without_waiting"
    ),
    "the store changes while it is read": (
        "store/test_reader.py::test_damage_after_opening_is_an_error_and_never_another_number"
    ),
    "a store of another format": "store/test_manifest.py::test_a_format_of_another_version_is_refused_by_its_number",
    "any sequence of writing, killing, damaging, sealing, reading": (
        "store/test_machine.py::test_a_store_answers_what_was_written_or_an_error_whatever_happens_to_it"
    ),
    # going on with something else
    "other weights": "test_extract.py::test_other_weights_into_the_same_store_are_refused",
    "another layer list, grid, precision, image size or preprocessing": (
        "test_extract.py::test_another_spec_into_the_same_store_is_refused_by_the_field_that_differs"
    ),
    "other versions of libraries, cache unfinished": (
        "test_extract.py::test_an_unfinished_cache_of_other_versions_is_not_gone_on_with"
    ),
    "other versions of libraries, cache sealed": (
        "test_extract.py::test_a_sealed_cache_of_other_versions_is_used_and_the_versions_are_told"
    ),
    "images in another order, one less, one more": (
        "test_extract.py::test_another_list_of_images_is_refused_by_the_first_row_that_differs"
    ),
    "an image of the same name with other bytes": (
        "test_extract.py::test_one_other_pixel_into_the_same_store_is_refused"
    ),
    "a folder with other things": "test_extract.py::test_a_folder_of_other_things_is_refused_and_not_touched",
    # images and numbers
    "folders are listed in another order": "store/test_faults.py::test_the_order_of_listings_changes_no_byte",
    "an image that comes twice": "data/test_algonauts.py::test_an_nsd_image_that_comes_twice_is_refused_by_its_number",
    "the same bytes under two names": "store/test_faults.py::test_the_same_picture_under_two_names_has_two_equal_rows",
    "truncated, empty, HTML, endless PNG, pipe, 16 bits, animation": (
        "test_extract.py::test_all_bad_images_are_listed_at_once_before_anything_is_written"
    ),
    "another library lets Pillow pass truncated files": (
        "test_extract.py::test_what_another_library_lets_pillow_pass_is_refused_all_the_same"
    ),
    "an image changes after it was checked": (
        "test_extract.py::test_an_image_that_changed_since_it_was_checked_is_an_error_that_names_it"
    ),
    "an image of too many pixels": "test_extract.py::test_a_picture_too_large_to_be_one_is_refused",
    "grey, palette, alpha": "data/test_algonauts.py::test_pictures_of_other_modes_are_read_as_rgb",
    "CMYK, turned by EXIF": "store/test_faults.py::test_pixels_are_those_stored_whatever_the_file_says_of_turning",
    "a device in an image's place, an image that may not be read": (
        "store/test_faults.py::test_what_cannot_be_read_as_an_image_is_refused_by_its_path_at_once"
    ),
    "flipped, rotated, channel-swapped images are confused": (
        "store/test_faults.py::test_pictures_of_the_same_sum_are_told_apart"
    ),
    "infinite numbers and NaN": (
        "test_extract.py::test_tokens_that_are_not_finite_are_refused_and_what_was_done_is_kept"
    ),
    "constant layers": "store/test_contents.py::test_a_constant_array_is_told_from_a_live_one",
    "a shard of zeros": "store/test_writer.py::test_a_shard_of_zeros_is_kept_like_any_other",
    "rows of a wrong shape or number": "store/test_writer.py::test_rows_of_another_shape_are_never_committed",
    "no memory left on the device": "store/test_faults.py::test_no_memory_on_the_device_names_a_batch_that_may_fit",
    # things that run code
    "weights that are a hostile pickle": "store/test_faults.py::test_weights_that_are_a_hostile_pickle_run_nothing",
    "a checkpoint that brings its own code": "store/test_faults.py::test_a_checkpoint_that_brings_code_runs_none_of_it",
    "safetensors with an absurd header": "store/test_faults.py::test_weights_with_an_absurd_header_are_refused",
    "a foreign checkpoint that is a hostile pickle": (
        "backbones/test_convert.py::test_a_pickle_that_runs_code_is_refused_and_not_run"
    ),
    "weights cut short": "backbones/test_vit.py::test_weights_cut_short_are_refused",
    "weights missing or of another shape": "backbones/test_vit.py::test_missing_weights_are_refused_by_their_names",
    "responses that are a pickle": "data/test_algonauts.py::test_responses_that_are_a_pickle_are_refused",
    "a label map that is a hostile pickle": (
        "data/test_label_map.py::test_a_pickle_that_calls_something_is_refused_and_nothing_is_called"
    ),
    # object stores
    "errors, refusals and missing buckets": (
        "store/test_remote.py::test_a_server_that_refuses_or_breaks_is_an_error_with_the_next_step"
    ),
    "connections that break in a body": (
        "store/test_remote.py::test_a_connection_that_always_breaks_is_an_error_and_never_a_fill"
    ),
    "an object that is missing or not what was sealed": (
        "store/test_remote.py::test_an_object_that_is_not_what_was_sealed_is_an_error_that_names_it"
    ),
    "an own write whose answer was lost": (
        "store/test_remote.py::test_an_own_write_whose_answer_was_lost_is_known_as_ones_own"
    ),
    "a server that never answers": "store/test_remote.py::test_a_server_that_never_answers_is_given_up_in_time",
    "secrets in addresses": "store/test_remote.py::test_an_address_with_credentials_is_refused_and_not_repeated",
    # fits and surroundings
    "a fit is killed at any step": (
        "encoder/test_fit.py::test_a_fit_that_was_killed_at_any_step_goes_on_to_the_same_bytes"
    ),
    "a saved state of a fit is cut or damaged": "encoder/test_fit.py::test_a_damaged_state_is_an_error_and_not_a_start",
    "a saved state is from another fit": "test_run.py::test_a_state_of_another_fit_is_not_taken_up",
    "a fit repeated gives other numbers": "encoder/test_fit.py::test_same_seed_gives_the_same_bytes",
    "another number of threads gives other numbers": (
        "encoder/test_fit.py::test_number_of_threads_does_not_change_a_bit"
    ),
    "responses with NaN, wrong rows, other ids": "test_bad_inputs.py::test_bad_input_gives_one_clear_message",
    "one picture under two ids, to train and to test": (
        "store/test_faults.py::test_a_picture_that_would_train_and_test_is_refused_by_both_its_names"
    ),
    "clocks that jump": "store/test_faults.py::test_a_clock_that_jumps_changes_no_byte",
    "another locale, time zone and seed of hashes": (
        "store/test_kill.py::test_a_process_with_another_locale_time_zone_and_hash_seed_writes_the_same_bytes"
    ),
    "spaces and other letters in paths": "store/test_faults.py::test_a_path_of_any_letters_holds_a_store",
}

LEFT_OUT = {
    "a graph of tasks whose chunks are not aligned to shards": "a task is a whole shard, so that there are no others",
    "a worker of a data loader dies or hangs": "images are read by threads of the process itself",
    "a local copy of remote shards is stale, cut, evicted or shared": "no copies are kept",
    "images appended to a sealed store": "a sealed store never changes; more images are another store",
    "overwriting a store on request": "there is no such option: stores are never overwritten",
    "zip or tar archives that lead out of their folder": "stores are not packed",
    "npz and joblib files as weights": "no format of weights that is read has them",
    "pickle filters and unknown codecs of Zarr version 2": "only version 3 is read, and only our codecs",
    "hub models without a pinned revision": "the hash of the weights, not their name, is in the identity of a store",
    "errors of GPU memory and drivers": "they need a GPU; that batches fail is tried with a stand-in",
    "another kind of GPU gives other bits": "the device and the versions are recorded in the store, and told",
    "file systems without hard links or locks": "stores use no locks; without links a file is renamed",
}


ABSENT = {  # words that the package would have in it if a fault could not be left out
    "a worker of a data loader dies or hangs": ("DataLoader",),
    "a local copy of remote shards is stale, cut, evicted or shared": ("simplecache", "filecache", "blockcache"),
    "overwriting a store on request": ("--overwrite", "--force"),
    "zip or tar archives that lead out of their folder": ("ZipStore", "ZipFile(", "tarfile.open", "unpack_archive"),
    "npz and joblib files as weights": ("joblib", "NpzFile"),
    "pickle filters and unknown codecs of Zarr version 2": ("zarr_format=2",),
    "file systems without hard links or locks": ("flock", "lockf", "FileLock"),
}
OUTSIDE_STORES = {  # modules that have such words and touch no store
    "file systems without hard links or locks": {"download.py"},  # which works without a lock where there are none
}


@cache
def names_of_tests(module: str) -> frozenset[str]:
    tree = ast.parse((TESTS / module).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("fault", COVERED)
def test_every_fault_is_covered_by_a_test_that_exists(fault: str) -> None:
    module, _, name = COVERED[fault].partition("::")
    assert name.startswith("test_")
    assert name in names_of_tests(module)


def test_at_least_forty_faults_are_covered_and_those_left_out_have_a_reason() -> None:
    assert len(COVERED) >= 40
    assert all(LEFT_OUT.values())
    assert not COVERED.keys() & LEFT_OUT.keys()


@pytest.mark.parametrize("fault", ABSENT)
def test_what_is_left_out_as_not_being_there_is_not_there(fault: str) -> None:
    assert fault in LEFT_OUT
    package = (TESTS.parent / "bddn").rglob("*.py")
    found = {path.name for path in package if any(word in path.read_text() for word in ABSENT[fault])}
    assert found <= OUTSIDE_STORES.get(fault, set())


# --- processes and the system


def command(spec: CacheSpec, brain: Path, folder: Path) -> list[str]:
    """What a user types to extract into new.zarr in a folder."""
    kept = {key: value for key, value in spec.to_dict().items() if value is not None}
    (folder / "spec.yaml").write_text(json.dumps(kept))  # JSON is YAML
    return ["extract", str(folder / "spec.yaml"), "--data", f"planted:{brain}", "--out", str(folder / "new.zarr")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_with_its_code_and_the_way_to_go_on_and_gives_the_shard_back(
    spec: CacheSpec, brain: Path, sealed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "new.zarr"

    def strike(batch: int) -> None:
        if batch == 5:  # in the second shard
            os.kill(os.getpid(), number)
            time.sleep(0.2)

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, spec).before_batch = strike
        result = CliRunner().invoke(app, command(spec, brain, tmp_path))
    assert result.exit_code == 128 + number
    assert number.name in result.output
    assert "Resume with: bddn" in result.output
    assert [name for name in files(out) if "lease" in name or "aside" in name] == []
    with pytest.raises(IncompleteStoreError, match="1 of 3 shards"):
        Cache(out)
    assert extract(spec, Planted(brain), out).n_computed == 2
    assert files(out) == files(sealed)


STRUCK_TWICE = """
import os, signal, sys, time
import bddn.extraction.extraction as job
from bddn.cli import app

opened, n = job.open_backbone, 0

def open_backbone(spec, device):
    backbone = opened(spec, device)
    forward = type(backbone).__call__

    def call(self, pixels):
        global n
        n += 1
        if n > 5:
            while not os.path.exists(os.path.join(sys.argv[-1], "manifest/shard-000000.json")):
                time.sleep(0.01)  # the first shard is written behind the second one's computing
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        return forward(self, pixels)

    type(backbone).__call__ = call
    return backbone

job.open_backbone = open_backbone
app(sys.argv[1:])
"""


def test_a_second_signal_ends_at_once_and_the_store_can_go_on(
    spec: CacheSpec, brain: Path, sealed: Path, tmp_path: Path
) -> None:
    done = quick_commands.run("-c", STRUCK_TWICE, *command(spec, brain, tmp_path))
    assert done.returncode == -signal.SIGINT
    assert extract(spec, Planted(brain), tmp_path / "new.zarr").n_computed == 2
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_too_few_open_files_are_an_error_and_are_survived(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(batch: int) -> None:
        if batch == 5:
            while not (tmp_path / "new.zarr/manifest/shard-000000.json").exists():
                time.sleep(0.01)  # the first shard is written behind the second one's computing
            n_open = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(3, n_open), before[1]))

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, spec).before_batch = limit
        try:
            with pytest.raises(BddnError, match="Too many open files"):
                extract(spec, planted, tmp_path / "new.zarr")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert extract(spec, planted, tmp_path / "new.zarr").n_computed == 2
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_the_order_of_listings_changes_no_byte(
    spec: CacheSpec, brain: Path, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, listdir, rng = os.scandir, os.listdir, random.Random(0)  # noqa: S311

    class Shuffled:
        def __init__(self, *args: Any) -> None:
            with scandir(*args) as found:
                self._entries = iter(_shuffled(rng, list(found)))

        def __enter__(self) -> "Shuffled":
            return self

        def __exit__(self, *_: object) -> None: ...

        def __iter__(self) -> Iterator[Any]:
            return self._entries

        def __next__(self) -> Any:
            return next(self._entries)

        def close(self) -> None: ...

    monkeypatch.setattr(os, "scandir", Shuffled)
    monkeypatch.setattr(os, "listdir", lambda *args: _shuffled(rng, listdir(*args)))
    dataset = Planted(brain)
    assert [path.name for path in dataset.stimuli.paths[0].parent.iterdir()] != sorted(
        path.name for path in dataset.stimuli.paths
    )
    extract(spec, dataset, tmp_path / "new.zarr")
    monkeypatch.undo()
    assert files(tmp_path / "new.zarr") == files(sealed)


def _shuffled(rng: random.Random, items: list[Any]) -> list[Any]:
    rng.shuffle(items)
    return items


def test_a_clock_that_jumps_changes_no_byte(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, now = random.Random(0), time.time  # noqa: S311
    monkeypatch.setattr(time, "time", lambda: now() + rng.uniform(-1e9, 1e9))
    extract(spec, planted, tmp_path / "new.zarr")
    assert files(tmp_path / "new.zarr") == files(sealed)


@pytest.mark.parametrize("name", ["with spaces and 'quotes'", "ünï-çödé-脳-🧠", "x" * 200, "%41?#&", "new\nline"])
def test_a_path_of_any_letters_holds_a_store(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name / "cache.zarr"
    extract(spec, planted, out)
    assert files(out) == files(sealed)
    assert Cache(out).digest == Cache(sealed).digest


# --- damaged and hostile stores


def test_verify_lists_every_bad_file_and_no_other(tmp_path: Path) -> None:
    root = tmp_path / "store.zarr"
    made = writer(root)
    made.prepare()
    write(made, filled_with(tokens()), SHARDS)
    made.seal()
    assert verify(root).bad == []
    flipped, cut, gone = "local/early/c.1.0.0.0", "global/early/c.0.0", "local/step@20.block_1/zarr.json"
    data = bytearray((root / flipped).read_bytes())
    data[len(data) // 2] ^= 1
    (root / flipped).write_bytes(data)
    (root / cut).write_bytes((root / cut).read_bytes()[:-1])
    (root / gone).unlink()
    bad = verify(root).bad
    assert sorted(words.partition(" ")[0] for words in bad) == sorted([flipped, cut, gone])


@pytest.mark.parametrize(
    ("name", "claim"),
    [("bitround:6", claim) for claim in ("gigabytes", "a number", "nothing", "junk")]
    + [("float16", claim) for claim in ("a number", "nothing", "junk")],
)
def test_a_chunk_of_another_size_is_refused_without_its_memory_though_it_was_sealed(
    tmp_path: Path, name: str, claim: str
) -> None:
    root, layout = tmp_path / "store.zarr", layout_of(name)
    made = writer(root, layout)
    made.prepare()
    write(made, filled_with(tokens(layout), layout), SHARDS)
    made.seal()
    held = bytes({"gigabytes": 1 << 28, "a number": 2}.get(claim, 0))
    chunk = b"junk" if claim == "junk" else numcodecs.Zstd(19).encode(held) if name == "bitround:6" else held
    assert len(chunk) < 1 << 16
    forge(root, [chunk, chunk])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptStoreError, match=r"local/early/c\.0\.0\.0\.0 has no rows in chunk 0"):
        read(Cache(root), "local/early")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


@pytest.mark.parametrize("second", [(1 << 63, 40), (2**64 - 1, 2**64 - 1), (0, 1 << 60), (41, 40)])
def test_an_index_that_leads_elsewhere_is_refused_though_it_was_sealed(tmp_path: Path, second: tuple[int, int]) -> None:
    root, layout = tmp_path / "store.zarr", layout_of()
    made = writer(root, layout)
    made.prepare()
    write(made, filled_with(tokens()), SHARDS)
    made.seal()
    forge(root, [bytes(36), bytes(36)], [(0, 40), second])
    with pytest.raises(CorruptStoreError):
        read(Cache(root), "local/early")


def forge(root: Path, chunks: list[bytes], entries: list[tuple[int, int]] | None = None) -> None:
    """Put a shard of these chunks into a store, and make the manifest vouch for it."""
    shard = root / "local/early/c.0.0.0.0"
    bodies = [summed(chunk) for chunk in chunks]
    ends = np.cumsum([len(body) for body in bodies]).tolist()
    true = [(end - len(body), len(body)) for end, body in zip(ends, bodies, strict=True)]
    index = summed(np.array(entries or true, "<u8").tobytes())
    shard.write_bytes(b"".join(bodies) + index)
    sums = [int.from_bytes(part[-4:], "little") for part in (*bodies, index)]
    seal_again(root, lambda seal: seal["files"]["local/early/c.0.0.0.0"].update(chunks=sums))


def summed(part: bytes) -> bytes:
    """Bytes and their CRC-32C."""
    return part + int(crc32c.crc32c(part)).to_bytes(4, "little")


# --- images


class Pictures(Planted):
    """A planted brain that shows other pictures."""

    def __init__(self, brain: Path, paths: list[Path]) -> None:
        super().__init__(brain)
        self._paths = tuple(paths)

    @property
    def stimuli(self) -> Stimuli:
        return Stimuli(tuple(f"picture-{i}" for i in range(len(self._paths))), self._paths)


def test_the_same_picture_under_two_names_has_two_equal_rows(spec: CacheSpec, brain: Path, tmp_path: Path) -> None:
    a, b = Planted(brain).stimuli.paths[:2]
    extract(spec, Pictures(brain, [a, b, a]), tmp_path / "new.zarr")
    found = Cache(tmp_path / "new.zarr")
    assert found.images[0] == found.images[2] != found.images[1]
    rows = found.read("local", "block_1", 0, 3)
    torch.testing.assert_close(rows[0], rows[2], rtol=2**-10, atol=1e-4)
    assert not torch.allclose(rows[0], rows[1], atol=0.1)


def test_pictures_of_the_same_sum_are_told_apart(spec: CacheSpec, brain: Path, tmp_path: Path) -> None:
    with Image.open(Planted(brain).stimuli.paths[0]) as opened:
        image = opened.convert("RGB")
    turned = np.asarray(image)
    variants = [turned, turned[:, ::-1], turned[::-1], turned[::-1, ::-1], turned[:, :, ::-1], turned[:, :, [1, 0, 2]]]
    paths = [tmp_path / f"{i}.png" for i in range(len(variants))]
    for path, pixels in zip(paths, variants, strict=True):
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    extract(spec, Pictures(brain, paths), tmp_path / "new.zarr")
    found = Cache(tmp_path / "new.zarr")
    rows = found.read("local", "block_1", 0, len(variants))
    assert len(set(found.images)) == len(variants)
    assert all(not torch.allclose(rows[i], rows[j], atol=0.01) for i in range(len(rows)) for j in range(i))


def test_pixels_are_those_stored_whatever_the_file_says_of_turning(brain: Path, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = BytesIO()
    picture.save(turned, "PNG", exif=exif)
    (tmp_path / "turned.png").write_bytes(turned.getvalue())
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=95)
    stimuli = Pictures(brain, [tmp_path / "turned.png", tmp_path / "cmyk.jpg"]).stimuli
    assert np.array_equal(np.asarray(stimuli.image(0)), np.asarray(picture))
    cmyk = stimuli.image(1)
    assert cmyk.mode == "RGB"
    np.testing.assert_allclose(np.asarray(cmyk)[2, 2], [255, 0, 0], atol=3)


def _refuse(path: Path) -> bytes:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize("kind", ["device", "folder", "loop of links", "dangling link", "no rights"])
def test_what_cannot_be_read_as_an_image_is_refused_by_its_path_at_once(
    spec: CacheSpec, brain: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.png"
    make: dict[str, Callable[[], object]] = {
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "loop of links": lambda: path.symlink_to(path),
        "dangling link": lambda: path.symlink_to(tmp_path / "nowhere"),
        "no rights": path.touch,
    }
    make[kind]()
    if kind == "no rights":  # which an administrator would have
        read_bytes = Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda p: _refuse(p) if p == path else read_bytes(p))
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        extract(spec, Pictures(brain, [path]), tmp_path / "new.zarr")
    assert caught.value.place == str(path)
    assert time.monotonic() - started < 5


def test_a_picture_that_would_train_and_test_is_refused_by_both_its_names(
    spec: CacheSpec, brain: Path, tmp_path: Path
) -> None:
    dataset = Planted(Path(shutil.copytree(brain, tmp_path / "brain")))
    settings = FitSpec(epochs=1)
    split = split_by_id(dataset.stimuli.ids, settings.split, settings.seed)
    a, b = split.train[3], split.test[0]
    path_of = dict(zip(dataset.stimuli.ids, dataset.stimuli.paths, strict=True))
    shutil.copyfile(path_of[a], path_of[b])
    extract(spec, dataset, tmp_path / "cache.zarr")
    with pytest.raises(DataError, match="every image in only one part") as caught:
        fit_run(tmp_path / "cache.zarr", dataset, tmp_path / "run", settings)
    assert f"'{a}'" in str(caught.value)
    assert f"'{b}'" in str(caught.value)
    assert not (tmp_path / "run").exists()


# --- the network and its weights


def test_no_memory_on_the_device_names_a_batch_that_may_fit(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    def fail(batch: int) -> None:
        if batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, spec).before_batch = fail
        with pytest.raises(BackboneError, match=r"no memory left.*batch_size: [23]"):
            extract(spec, planted, tmp_path / "new.zarr")
    smaller = spec.model_copy(update={"batch_size": 3})
    assert extract(smaller, planted, tmp_path / "new.zarr").n_computed == 2
    assert Cache(tmp_path / "new.zarr").header == Cache(sealed).header


@pytest.fixture
def weights(spec: CacheSpec, tmp_path: Path) -> Path:
    """A copy of the planted network's weights, to be spoiled."""
    folder = tmp_path / "weights"
    folder.mkdir()
    assert spec.weights is not None
    for path in Path(str(spec.weights.folder)).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def opened(spec: CacheSpec, folder: Path) -> object:
    return open_backbone(spec.model_copy(update={"weights": WeightsSpec(folder=str(folder))}))


class Hostile:
    """Unpickling it makes a file."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self._canary,)


@pytest.mark.parametrize("place", ["whole", "in the state"])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_that_are_a_hostile_pickle_run_nothing(
    spec: CacheSpec, weights: Path, tmp_path: Path, place: str, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary = tmp_path / "canary"
    hostile: Any = Hostile(canary)
    state = {**load_file(weights / "model.safetensors"), "extra": hostile} if place == "in the state" else hostile
    (weights / "model.safetensors").unlink()
    torch.save(state, weights / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BackboneError):
        opened(spec, weights)
    assert not canary.exists()


def test_the_hostile_pickle_would_make_its_file(tmp_path: Path) -> None:
    torch.save(Hostile(tmp_path / "canary"), tmp_path / "weights.bin")
    torch.load(tmp_path / "weights.bin", weights_only=False)
    assert (tmp_path / "canary").exists()


def test_a_checkpoint_that_brings_code_runs_none_of_it(spec: CacheSpec, weights: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (weights / "modeling_own.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Own: pass\n")
    config = json.loads((weights / "config.json").read_text())
    own = {"AutoModel": "modeling_own.Own", "AutoConfig": "modeling_own.Own", "CLIPVisionModel": "modeling_own.Own"}
    (weights / "config.json").write_text(json.dumps({**config, "auto_map": own}))
    opened(spec, weights)
    assert not canary.exists()


@pytest.mark.parametrize("header", [(1 << 40).to_bytes(8, "little"), b"\xff" * 8, (2).to_bytes(8, "little") + b"{}"])
def test_weights_with_an_absurd_header_are_refused(spec: CacheSpec, weights: Path, header: bytes) -> None:
    path = weights / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(header + data[len(header) :])
    with pytest.raises(BackboneError) as caught:
        opened(spec, weights)
    assert caught.value.place == str(weights)
