"""How much memory a process has used."""

import resource
from pathlib import Path


def peak_memory_gb() -> float:
    """Largest resident size of this process so far, in GB."""
    status = Path("/proc/self/status")
    if status.exists():  # where there is none, the kernel's other figure: on Linux that begins with the parent's peak
        peak = next((row for row in status.read_text().splitlines() if row.startswith("VmHWM")), None)
        if peak is not None:
            return int(peak.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
