"""The worker: a pool of child processes that survives whatever a job does to them.

The parent's side
    ``pool`` (its loop), ``docket`` (what is open), ``link`` (the end of a child), ``pace`` (batch
    sizes), ``deadlines``, ``inquest`` (who is to blame for a death), ``nursery`` (the process that
    children are forked from).
The child's side
    ``upbringing``, ``child`` (its loop), ``line_run`` (one file's line), ``step`` (one job),
    ``limits``, ``retry``.
Between them
    ``work`` (tasks and reports), ``wire`` (frames), ``cell`` (shared memory), ``scratch``
    (temporary files).
"""
