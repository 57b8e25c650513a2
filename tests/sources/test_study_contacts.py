"""Contacts that sponsors wrote into the text of a study."""

from typing import Any

import pytest

from medllm_ops.sources.study_contacts import Contacts
from medllm_ops.sources.study_fields import Fields


def contacts(*people: dict[str, str], sponsor: str = "A Sponsor") -> Contacts:
    central, official, *local = [*people, {}, {}]
    protocol: dict[str, Any] = {
        "sponsorCollaboratorsModule": {"leadSponsor": {"name": sponsor}},
        "contactsLocationsModule": {
            "centralContacts": [central],
            "overallOfficials": [official],
            "locations": [{"facility": "A Clinic", "contacts": local}],
        },
    }
    return Contacts(Fields(protocol, "protocolSection"))


@pytest.mark.parametrize(
    "phone", ["555-010-9999", "(555) 010 9999", "+1 555 010 9999", "0555.010.9999", "5550109999x12"]
)
@pytest.mark.parametrize("written", ["555-010-9999", "(555) 010-9999", "+1-555-0109999", "555 010 9999, ext. 12"])
def test_a_telephone_number_goes_however_it_is_written(phone: str, written: str) -> None:
    here, there = contacts({"phone": phone}), contacts({}, {}, {"phone": phone})
    for found in (here, there):
        assert found.removed_from(f"Ask {written} about it.\nDose 5 mg.") == "Ask about it.\nDose 5 mg."


@pytest.mark.parametrize("call", ["Phone: 0207 946 0000", "call us at 207-946-0000", "+44 20 7946 0000"])
def test_a_number_that_the_record_does_not_name_goes_where_it_is_called_one(call: str) -> None:
    assert "946" not in contacts().removed_from(f"For more, {call}.")


@pytest.mark.parametrize(
    "text",
    [
        "10000000 units, 738409 148 cells and 1012600 0.002 are kept.",
        "NCT05550109 and 2019-2021, ISRCTN5550109999 are no telephones.",
        "Between 12/01/2019 - 31/12/2021 at 100-200-300 mg.",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert contacts({"phone": "555-010-9999"}, {}, {"phone": "+86 138 0000 0000"}).removed_from(text) == text


def test_names_of_persons_go_with_title_and_degree() -> None:
    found = contacts({"name": "Jane Doe, MD"}, {"name": "Prof. Ana María López"}, {"name": "John van Helsing"})
    text = "Dr. Jane Doe, Ph.D., leads it; Ana María López reads the images. The Doe score is used."
    assert found.removed_from(text) == "leads it; reads the images. The Doe score is used."


@pytest.mark.parametrize(
    "name", ["Study Director", "Clinical Trials Call Center", "Investigator", "Acme Pharmaceuticals"]
)
def test_names_of_desks_stay(name: str) -> None:
    text = f"The {name} decides."
    assert contacts({"name": name}).removed_from(text) == text


def test_a_sponsor_that_is_named_like_a_person_stays() -> None:
    text = "The assay of Eli Lilly is used."
    assert contacts({"name": "Eli Lilly"}, sponsor="Eli Lilly and Company").removed_from(text) == text
    assert contacts({"name": "Eli Lilly"}).removed_from(text) == "The assay of is used."


def test_mail_addresses_go() -> None:
    assert contacts().removed_from("Write to e-mail: a.b@c.example.\nHb 12") == "Write to\nHb 12"
