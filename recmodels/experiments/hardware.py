"""What a run was computed on, in words that fit into a table."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, cores, threads and GPU of this process.

    Args:
        device: where the model lies.

    Returns:
        `cpu` its model, `cores` physical cores (None where the system does not tell), `torch_threads` the threads of
        one operation, `gpu` the name of the device or None.
    """
    return {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def cpu_name() -> str:
    """The processor's model, as far as the system tells; else its architecture."""
    asked = {"linux": _linux_name, "darwin": _macos_name}.get(sys.platform, str)
    return asked() or platform.processor() or platform.machine()


def _linux_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _macos_name() -> str:
    try:
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
