"""Any number of samples in shards: `keras-gan sample BUNDLE --count 1000000 --out FOLDER/`.

A shard is a function of the command's arguments and its number. It can be lost, or made on another
machine, and made again byte for byte. A worker holds one batch at a time, and the memory does not
depend on the count.
"""

from serving.bulk.command_line import command
from serving.bulk.destinations import INDEX, Destination, RemoteDestination, open_destination
from serving.bulk.index import SCHEMA_VERSION
from serving.bulk.job import FORMATS, BulkJob, Stopped, plan
from serving.bulk.runner import ENGINES, run
from serving.bulk.writers import make_shard

__all__ = [
    "ENGINES",
    "FORMATS",
    "INDEX",
    "SCHEMA_VERSION",
    "BulkJob",
    "Destination",
    "RemoteDestination",
    "Stopped",
    "command",
    "make_shard",
    "open_destination",
    "plan",
    "run",
]
