"""ClinicalTrials.gov studies in the JSON of API v2: single studies, pages, lists, and the bulk zip.

The text has the study's sections in the order of the study record: title, summary, description, conditions, design,
arms, interventions, outcomes, eligibility. Sponsors, officials, contacts and locations never enter.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medllm_ops.errors import UnreadableFileError
from medllm_ops.fetch.clinicaltrials import Settings, fetch
from medllm_ops.records import Document, Reject
from medllm_ops.sources.archives import ZIP_MAGIC, RawFile, check_md5_sidecar, open_raw, zip_members
from medllm_ops.sources.base import Parsed, Source
from medllm_ops.sources.study_fields import Fields, WrongTypeError
from medllm_ops.sources.study_pages import CUT_OFF, Broken, Found, NotStudiesError, Study, read_studies
from medllm_ops.sources.study_text import has_description, study_text
from medllm_ops.sources.text import as_json, excerpt

MAX_FILE_BYTES = 128 << 20
"""A larger JSON file is refused: a page of 1,000 studies has some 17 MB. Reading takes about eight times the file."""

LICENCE = "ClinicalTrials.gov terms and conditions (public data of the U.S. National Library of Medicine)"

DAMAGED = "damaged gzip data"
MALFORMED = "malformed study"
NO_DESCRIPTION = "no description"
NO_NCT_NUMBER = "no NCT number"

_NCT_ID = re.compile(r"NCT\d{8}")


def parse(path: Path) -> Iterator[Parsed]:
    """Yield one :class:`Document` or :class:`Reject` for each study.

    :raises UnreadableFileError: if the file cannot be opened, differs from its ``.md5`` sidecar, is larger than
        :data:`MAX_FILE_BYTES` unpacked, is neither a whole zip nor JSON, or shows no sign of a study.
    """
    check_md5_sidecar(path)
    with open_raw(path) as file:
        is_zip = file.read(4) in ZIP_MAGIC
    if is_zip or path.suffix.lower() == ".zip":
        yield from _parse_zip(path)
        return
    raw = RawFile(path)
    data = bytearray()
    for block in raw.blocks():
        data += block
        if len(data) > MAX_FILE_BYTES:
            raise UnreadableFileError(
                path, f"has more than {MAX_FILE_BYTES >> 20} MiB; cut it into pages, or zip studies"
            )
    number = 0
    cut_off = False
    try:
        for number, found in enumerate(read_studies(bytes(data)), start=1):
            cut_off = isinstance(found, Broken) and found.reason == CUT_OFF
            yield _item(found, str(path), f"record {number}")
    except NotStudiesError as error:
        if not raw.damage:
            raise UnreadableFileError(path, str(error)) from error
    if raw.damage and not cut_off:
        reason = CUT_OFF if raw.cut_off else DAMAGED
        yield Reject(file=str(path), position=f"record {number + 1}", reason=reason, detail=raw.damage)


def _parse_zip(path: Path) -> Iterator[Parsed]:
    empty = True
    for member in zip_members(path, ".json"):
        empty = False
        if member.refusal:
            yield Reject(file=str(path), position=f"member {member.name}", reason=member.refusal, detail=member.detail)
            continue
        try:
            for number, found in enumerate(read_studies(member.data), start=1):
                yield _item(found, str(path), f"member {member.name}, record {number}")
        except NotStudiesError as error:
            yield Reject(
                file=str(path),
                position=f"member {member.name}",
                reason="not a study file in archive",
                detail=str(error),
                excerpt=excerpt(member.data),
            )
    if empty:
        yield Reject(file=str(path), position="record 1", reason="no records in file", detail="the archive is empty")


def _item(found: Found, file: str, position: str) -> Document | Reject:
    broken = _document(found.value) if isinstance(found, Study) else found
    if isinstance(broken, Document):
        return broken
    return Reject(
        file=file,
        position=position,
        reason=broken.reason,
        detail=broken.detail,
        id=f"clinicaltrials:{broken.nct_id}" if broken.nct_id else None,
        excerpt=excerpt(broken.data),
    )


def _document(value: Any) -> Document | Broken:
    try:
        protocol = Fields(value, "study").section("protocolSection")
        nct_id = protocol.section("identificationModule").line("nctId")
        if not _NCT_ID.fullmatch(nct_id):
            return Broken(NO_NCT_NUMBER, as_json(value), f"nctId is {nct_id[:40]!r}")
        if not has_description(protocol):
            return Broken(NO_DESCRIPTION, as_json(value))
        title, text = study_text(protocol)
        return Document(
            id=f"clinicaltrials:{nct_id}",
            source="clinicaltrials",
            language="en",
            title=title,
            text=text,
            url=f"https://clinicaltrials.gov/study/{nct_id}",
            licence=LICENCE,
            version=_version(protocol),
        )
    except WrongTypeError as error:
        return Broken(MALFORMED, as_json(value), str(error))


def _version(protocol: Fields) -> int:
    """The day of the last update as a number (of days since year 1), so that a later state is a higher version."""
    stated = protocol.section("statusModule").section("lastUpdatePostDateStruct").line("date")
    year, month, day = ([*stated.split("-"), "1", "1"] if stated else ["", "", ""])[:3]
    try:
        return datetime.date(int(year), int(month), int(day)).toordinal()
    except ValueError:
        return 1


SOURCE = Source(
    name="clinicaltrials",
    stage="pretrain",
    folder="clinicaltrials",
    patterns=("*.json", "*.json.gz", "*.zip"),
    parse=parse,
    publisher_ids=True,
    fetch=fetch,
    settings=Settings,
)
