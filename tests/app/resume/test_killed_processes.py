"""Runs that end by SIGKILL, which nothing in the process can see coming."""

import killed_runs
from process_runner import run_script


def test_a_killed_run_is_resumed_to_the_bit_from_files_that_are_whole(tmp_path):
    run_script(killed_runs.__file__, str(tmp_path), time_limit=60)
