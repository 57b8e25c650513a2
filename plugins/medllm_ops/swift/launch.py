"""Start one of ms-swift's own modules with less work: ``python -m medllm_ops.swift.launch swift.cli.sft ARGUMENTS``.

The imports of a training make about a million objects that stay, among which Python looks for garbage again and again
meanwhile: a sixth of all that the start costs. What the module does is not changed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import runpy
import sys
from collections.abc import Iterator

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


def main() -> None:
    """Run the module that the first argument names as ``python -m`` does, with the other arguments."""
    module, *arguments = sys.argv[1:]
    own_order = any(name.partition("=")[0] in _FIRST for name in arguments) or _FIRST_VARIABLE in os.environ
    if not own_order:
        # What cannot be imported fails again where the module asks for it, and is told there.
        with contextlib.suppress(ImportError), quick_imports():
            import_swift()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
