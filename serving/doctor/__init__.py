"""The command `keras-gan doctor`: facts of the machine and its packages, and what breaks them.

It runs without TensorFlow, onnxruntime and numpy in its own process, so that it works where they
cannot be imported. `packages`, `machine` and `cuda` read files; `probes` imports the packages in
processes of their own; `rules` turns these facts into findings; `report` writes them.
"""

from serving.doctor.command import doctor

__all__ = ["doctor"]
