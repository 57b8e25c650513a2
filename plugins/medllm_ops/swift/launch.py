"""Start one of ms-swift's own modules with less work: ``python -m medllm_ops.swift.launch swift.cli.sft ARGUMENTS``.

The imports of a training make about a million objects that stay, among which Python looks for garbage again and again
meanwhile: a sixth of all that the start costs. And for each file of rows ms-swift lets datasets start a pool of one
process, a copy of all that was imported, which gains nothing. Neither is done here; what the module does is the same.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import runpy
import sys
from collections.abc import Iterator
from typing import Any

# Before its imports, ms-swift does something where one of these is asked for: then it shall do all of them itself.
_FIRST = ("--tuner_backend", "--use_ray")
_FIRST_VARIABLE = "SWIFT_SINGLE_DEVICE_MODE"


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import within this: no garbage is looked for until the end, and never among what was imported."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_swift() -> None:
    """Import what each of ms-swift's commands imports."""
    from swift.pipelines import export_main, pretrain_main, rlhf_main, sft_main

    del export_main, pretrain_main, rlhf_main, sft_main


def map_here() -> None:
    """Let datasets work in this process where it is asked for one process."""
    from datasets import Dataset  # type: ignore[import-untyped]

    in_a_pool = Dataset.map

    @functools.wraps(in_a_pool)
    def here(self: Any, *arguments: Any, **named: Any) -> Any:
        if named.get("num_proc") == 1:
            named["num_proc"] = None
        return in_a_pool(self, *arguments, **named)

    Dataset.map = here


def main() -> None:
    """Run the module that the first argument names as ``python -m`` does, with the other arguments."""
    module, *arguments = sys.argv[1:]
    own_order = any(name.partition("=")[0] in _FIRST for name in arguments) or _FIRST_VARIABLE in os.environ
    if not own_order:
        # What cannot be imported fails again where the module asks for it, and is told there.
        with contextlib.suppress(ImportError), quick_imports():
            import_swift()
            map_here()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
