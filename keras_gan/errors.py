"""Exceptions of the package; `UsageError` is shared by all packages of the project."""

from serving.errors import UsageError

__all__ = ["UsageError", "WorkerLostError"]


class WorkerLostError(RuntimeError):
    """Another of the processes that train together has ended or cannot be reached.

    Not a mistake of the user: the command line prints the line and exits with status 1, and all
    workers can be started again with `--resume`.
    """
