"""Import kombu and make it load ``Connection`` in this fresh process; print how long that took, see ``measure``."""

import time

_wall, _cpu = time.perf_counter(), time.process_time()

import kombu  # noqa: E402

kombu.Connection  # noqa: B018 (loads the module)

_cpu, _wall = time.process_time() - _cpu, time.perf_counter() - _wall

import json  # noqa: E402
import sys  # noqa: E402

if __name__ == "__main__":
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    if kombu.Connection.__module__ != "kombu.connection":
        sys.exit(f"kombu.Connection is {kombu.Connection!r}")
    print(
        json.dumps(
            {
                "messages": 1,
                "seconds": _wall,
                "cpu_seconds": _cpu,
                "peak_kib": peak,
                "version": kombu.__version__,
                "core": getattr(kombu, "__impl__", None),
            }
        )
    )
