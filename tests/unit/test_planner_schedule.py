"""Schedules that can be checked by hand."""

from planner.schedule import Run, Task, schedule


def test_independent_jobs_share_the_cores():
    assert schedule([Task(10.0, memory=100)] * 6, cores=3) == Run(20.0, 300, 0)


def test_chain_takes_the_sum_whatever_the_cores():
    chain = [Task(1.0, memory=1), Task(2.0, memory=1, after=[0]), Task(3.0, memory=1, after=[1])]
    assert schedule(chain, cores=8) == Run(6.0, 1, 0)


def test_job_of_many_threads_has_its_cores_and_no_more():
    """8 core seconds: 2 s on its 4 threads where there are 8 cores, 4 s on 2 cores."""
    assert schedule([Task(8.0, threads=4)], cores=8).seconds == 2.0
    assert schedule([Task(8.0, threads=4)], cores=2).seconds == 4.0


def test_peak_memory_is_that_of_jobs_that_run_together():
    run = schedule([Task(1.0, 1, 10), Task(1.0, 1, 20), Task(5.0, 2, 25, after=[0, 1])], cores=2)
    assert (run.seconds, run.memory) == (1.0 + 2.5, 30)


def test_jobs_start_one_after_another_however_many_cores_there_are():
    """Ten jobs of 1 s on ten cores: the last one starts after ten launches of 0.5 s."""
    assert schedule([Task(1.0)] * 10, cores=10, launch=0.5).seconds == 6.0


def test_every_job_of_a_chain_waits_in_the_queue():
    assert schedule([Task(1.0), Task(2.0, after=[0])], cores=8, launch=0.25, wait=60).seconds == 3.0 + 2 * 60.25


def test_temporary_products_go_with_the_last_job_that_reads_them():
    """Two visits: a warp of 10 bytes, read twice, to a coadd of 3 that stays."""
    warps = [Task(1.0, temporary=10)] * 2
    coadds = [Task(1.0, kept=3, after=[0]), Task(1.0, kept=3, after=[1])]
    checks = [Task(1.0, kept=1, after=[0, 2]), Task(1.0, kept=1, after=[1, 3])]
    # side by side: the check that ends first takes its warp away before the other has written
    assert schedule([*warps, *coadds, *checks], cores=2).disk == 2 * (10 + 3) + 1
    # one after the other: the first warp goes before the second comes
    assert schedule([*warps, *coadds, *checks], cores=1).disk == 10 + 3 + 1 + 3 + 1


def test_products_that_stay_add_up():
    assert schedule([Task(1.0, kept=5)] * 4, cores=1).disk == 20
