"""Exceptions of the package; those of users' mistakes are shared by all packages of the project."""

from serving.errors import UsageError, one_line

__all__ = ["UsageError", "WorkerLostError", "one_line"]


class WorkerLostError(RuntimeError):
    """Another of the processes that train together has ended or cannot be reached.

    Not a mistake of the user: the command line prints the line and exits with status 1, and all
    workers can be started again with `--resume`.
    """
