"""Run the programs of ``examples/``, and know what each has to print."""

from __future__ import annotations

import subprocess

import interpreter
import which_build

FOLDER = which_build.ROOT / "examples"

#: Program -> a line that it prints on every broker once all has gone well.
PRINTED = {
    "confirmed_publisher": "250 cents: safe",
    "failover": "made it",
    "hello": "Charles writes: Hello!",
    "pooled_publisher": "100 readings arrived",
    "reconnecting": "the sum is 55",
    "rpc": "fibonacci(30) is 832040",
    "simple_queue": "none is left",
    "worker": "20 tasks done, the last sum is 39",
}


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python examples/PROGRAM.py ARGUMENTS`` with warnings as errors."""
    path = FOLDER / f"{program}.py"
    code = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    return interpreter.run(code, *arguments)
