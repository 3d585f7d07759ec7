"""The sentences of Debian's asterisk-core-sounds-en-wav, for the benchmarks of sound."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from serving.wav import read_wav

FOLDER = Path("/usr/share/asterisk/sounds/en_US_f_Allison")


def read(sample_rate: int) -> list[np.ndarray]:
    """Returns the sentences, float64 `(time,)`, in the order of the SHA-256 of their names.

    Raises:
        SystemExit: the package is not installed, or has another sampling rate.
    """
    if not FOLDER.is_dir():
        raise SystemExit(f"apt install asterisk-core-sounds-en-wav. Received: no {FOLDER}")
    found = []
    files = sorted(FOLDER.glob("*.wav"), key=lambda f: hashlib.sha256(f.stem.encode()).digest())
    for file in files:
        samples, rate = read_wav(file.read_bytes())
        if rate != sample_rate:
            raise SystemExit(f"{file} must have {sample_rate} Hz. Received: {rate} Hz")
        found.append(samples[:, 0])
    return found
