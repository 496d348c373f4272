import subprocess
import sys

import numpy as np

from core.memory import peak_memory_gb


def test_the_peak_of_a_child_is_not_that_of_the_process_that_started_it():
    held = np.ones(50_000_000)  # 0.4 GB
    ask = [sys.executable, "-c", "from core.memory import peak_memory_gb; print(peak_memory_gb())"]
    child = float(subprocess.run(ask, capture_output=True, text=True, check=True).stdout)
    assert 0 < child < held.nbytes / 1e9 / 2 < peak_memory_gb()
