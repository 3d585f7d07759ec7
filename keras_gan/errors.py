"""What a user can put right."""


class UsageError(ValueError):
    """A mistake in what the user gave, told in one line: the rule, then what was received.

    The command line prints the line and exits with status 2; Python code can catch it as the
    `ValueError` that it is.
    """


class WorkerLostError(RuntimeError):
    """Another of the processes that train together has ended, or cannot be reached.

    No mistake of the user: the command line prints the line and exits with status 1, and all
    workers can be started again with `--resume`.
    """
