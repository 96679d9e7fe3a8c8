"""The worker: a pool of child processes that survives whatever a job does to them.

In the parent
    ``pool`` (the event loop), ``task_table`` (unfinished tasks), ``child_handle`` (one child, seen
    by the parent), ``batch_size`` (tasks per message), ``timeouts``, ``crash_report`` (which job
    caused a crash), ``fork_server_client`` (asks the fork server for children).
In the fork server
    ``fork_server`` (forks and kills children), ``preload`` (imports before the first fork).
In a child
    ``child`` (its loop), ``line_run`` (the jobs of one file), ``loaded_job`` (one job), ``limits``,
    ``retry``.
Shared by both sides
    ``task`` (tasks and reports), ``child_config``, ``protocol`` (messages), ``shared_state``
    (shared memory), ``scratch`` (temporary files).
"""
