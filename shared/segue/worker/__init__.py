"""The worker: child processes that run jobs, and survive whatever a job does to them.

A task is some jobs to run on one file. ``Pool`` accepts tasks and returns reports. It starts one
process, the supervisor, which forks children, sends them tasks, kills them at their deadlines, and
finds the job at fault when one exits. See docs/adr/0009.

In the user's process
    ``pool``
In the supervisor
    ``supervisor`` (processes), ``scheduler`` (decisions), ``preload`` (imports before a fork).
In a child
    ``child`` (its loop), ``line_run`` (the jobs of one file), ``failure`` (from an exception or an
    exit to what the ledger keeps).
In all of them
    ``protocol`` (tasks, reports and messages), ``process`` (limits, kills, temporary files),
    ``numba_cache``.
"""
