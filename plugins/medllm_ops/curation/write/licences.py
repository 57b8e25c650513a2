"""Licences that stop the build."""

from __future__ import annotations

import re
from collections.abc import Mapping

from medllm_ops.curation.settings import LicenceSettings
from medllm_ops.errors import MedllmError


def check_licences(counts: Mapping[str, Mapping[str, int]], settings: LicenceSettings) -> None:
    """Stop where rows are to be written whose licence is denied, or unknown, unless their source is allowed by name.

    :param counts: for each source its licences, an empty one for none, and how many rows have it.
    :raises MedllmError: naming the source, the licence and the remedy.
    """
    denied = [re.compile(".*".join(map(re.escape, text.split("*"))), re.IGNORECASE) for text in settings.deny]
    for source, licences in sorted(counts.items()):
        if source in settings.allow:
            continue
        for licence, rows in sorted(licences.items()):
            if not licence and settings.unknown == "stop":
                fault = f"{rows:,} rows without a licence, and licences.unknown is stop"
            elif licence and any(one.fullmatch(licence) for one in denied):
                fault = f"{rows:,} rows under {licence}, which licences.deny names"
            else:
                continue
            raise MedllmError(f"set {source} has {fault}: leave the set out, or name it in licences.allow")
