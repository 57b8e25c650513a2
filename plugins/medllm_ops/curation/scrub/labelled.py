"""Numbers with a label right before them: identity, medical record, bank account, insurance.

The digits are looked for first and the label behind them: text has few long numbers and many words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medllm_ops.curation.scrub.check_digits import ascii_digits, hong_kong_identity, luhn, resident_identity
from medllm_ops.curation.scrub.finding import Kind, Span
from medllm_ops.curation.scrub.surroundings import measured, registered

_LONGEST_LABEL = 48
_CANDIDATE = re.compile(r"\d(?:[\dA-Za-z\-]|[ \u00a0](?=[\dA-Z])){3,}")
_YEAR = re.compile(r"(?:19|20)\d\d(?:-(?:19|20)?\d\d)?(?:-[a-z]+)*(?: |$)")
_END = r"(?![A-Za-z\d]|[.\-]\d)"
# Between a label and its number: what is in brackets, "号码", "No.", a colon, an opening bracket.
_REMARK = r"(?:\s{0,2}[(（][^()（）\d\n]{1,12}[)）])?"
_TO = (
    rf"{_REMARK}(?:\s{{0,2}}(?:号码|编号|号|號碼|號|码|#|№|(?:No\.?|numbers?|num\.?|ID)(?![A-Za-z]))){{0,2}}{_REMARK}"
    r"[\"”']?\s{0,2}(?:[:：=＝|｜]|(?:is|was)(?![A-Za-z])|是|为)?\s{0,3}[(（【\[“\"']?\s?(?:No\.?|#)?\s?$"
)


@dataclass(frozen=True)
class _Rule:
    kind: Kind
    name: str
    gates: tuple[str, ...]
    label: re.Pattern[str]
    value: re.Pattern[str]
    digits: tuple[int, int]


def _rule(kind: Kind, name: str, gates: str, labels: str, value: str, digits: tuple[int, int]) -> _Rule:
    label = re.compile(rf"(?:{labels}){_TO}", re.IGNORECASE)
    return _Rule(kind, name, tuple(gates.split()), label, re.compile(f"(?:{value}){_END}", re.IGNORECASE), digits)


# The order matters: "就诊卡号" is a record's number although "卡号" is a bank's. What is matched is the end of a label,
# so that 患者身份证号 and 居民身份证 need no entries of their own.
_RULES = (
    _rule(
        "ID",
        "id.labelled",
        "证 證 护照 護照 身份 card identi national passport ssn security licen hkid",
        "身份[证證]|身份证件|身份證字|公民身份|证件|护照|護照|通行证|军官证|士兵证|驾驶证|居住证|台胞证|户口簿|"
        r"(?<![A-Za-z⟨])(?:ID card|identity card|identity|national (?:ID|identity|identification)|passport|SSN|"
        r"social security|(?:driver'?s?|driving) licen[cs]e|HKID)",
        r"[A-Za-z]{0,3}[(（]?\d(?:[ \-]?\d){4,18}(?:[ \-]?[Xx]|[(（][\dA][)）])?",
        (6, 19),
    ),
    _rule(
        "INSURANCE",
        "insurance",
        "医保 医疗 社保 社会保 农合 参保 保单 保险 公积金 健保 个人编号 insur policy member subscriber beneficiary "
        "medicare mbi medicaid health nhs",
        r"医保卡?|(?:医保|社保)卡\s?[(（]?卡|医保证|医疗保险[卡证]?|医疗证|社保卡?|社会保障卡?|社会保险卡?|新?农合[卡证]?|"
        "参保(?:人员?)?|保单|保险单|保险[卡证]|公积金(?:账户|账)?|健保卡|个人编号|"
        r"(?<![A-Za-z⟨])(?:(?:health |medical )?insurance(?: policy| card| member)?|insured(?:'s)?|policy|member|"
        "subscriber|beneficiary|Medicare|MBI|Medicaid|health ?(?:care )?card|NHS)",
        r"[A-Za-z]{0,4}[\- ]?\d[\dA-Za-z]*(?:[\- ][\dA-Za-z]*\d[\dA-Za-z]*){0,6}",
        (5, 24),
    ),
    _rule(
        "RECORD",
        "record",
        "住院 病案 病历 病歷 门诊 急诊 就诊 诊疗 患者 病人 病员 影像 检查 ct mr x线 x光 超声 病理 标本 放射 检验 体检 "
        "挂号 处方 档案 登记 record hosp patient pt admission chart encounter visit specimen pathology radiology emr",
        r"住院病案|(?:就诊|诊疗)卡\s?[(（]?卡|病案|病[历歷]|就诊卡|诊疗卡|登记卡|"
        "(?:患者|病人|病员|就诊人)(?:识别|登记|标识|唯一)?(?=[号編编码IDid]+)|"
        "(?:住院|门诊|急诊|就诊|诊疗|影像|检查|(?<![A-Za-z])CT|(?<![A-Za-z])MRI?|[Xx][线光片]|超声|病理|标本|放射|检验|"
        r"体检|挂号单?|处方|档案|(?<![验床究])登记)(?=\s?(?:[号號编#]|ID|No))|"
        r"(?<![A-Za-z⟨])(?:U?MRN|EMR(?= ?(?:No|ID|num))|(?:electronic )?(?:medical|health) record|"
        r"(?:hospital|hosp\.?|patient|patient's|pt\.?|admission|(?:in|out)[- ]?patient|chart|encounter|visit|specimen|"
        "(?:surgical )?pathology|radiology)(?= ?(?:num|no|ID|#|ident|registration num)))"
        "(?: ?(?:identifier|identification|registration))?",
        r"(?:[A-Za-z]{1,4}\-?)?\d[\dA-Za-z]*(?:\-[\dA-Za-z]+){0,3}",
        (4, 20),
    ),
    _rule(
        "ACCOUNT",
        "account",
        "卡 账 帐 户 支付宝 account acct card routing sort iban a/c",
        r"(?<![诊疗保康用])(?:银行|储蓄|信用|借记|工资|龙|金穗|牡丹)?卡(?=[号码]|尾|\s?[:：])|银行卡|信用卡|"
        "(?:银行|收款|付款|退款|汇款|对公|个人|缴费|打款|开户)?[账帐][号户]|支付宝(?:账号)?|开户行?账?号|"
        r"(?<![A-Za-z⟨])(?:(?:bank |checking |savings |billing |deposit )?(?:account|acct\.?)(?= ?(?:num|no|#|:|：))|"
        "(?:credit|debit|bank|payment) ?card|card(?= ?(?:num|no|#))|routing|sort code|IBAN|a/c)",
        r"\d(?:[ \u00a0\-]?\d){5,27}|[A-Za-z]{2}\d{2}(?: ?[A-Za-z\d]{4}){2,7}(?: ?[A-Za-z\d]{1,3})?",
        (8, 30),
    ),
)
_EIGHTEEN = re.compile(rf"(?<![A-Za-z\d.\-_/])\d{{6}}[ \-]?\d{{8}}[ \-]?\d{{3}}[\dXxＸ]{_END}")
_CARD = re.compile(
    rf"(?<![A-Za-z\d.\-_/])(?:[3-6]\d{{3}}([ \-])\d{{4}}\1\d{{4}}\1\d{{4}}(?:\1\d{{1,3}})?|62\d{{14,17}}){_END}"
)
_HONG_KONG = re.compile(r"[A-Z]{1,2}\d{6}[(（][\dA][)）](?![A-Za-z\d])")
_HONG_KONG_LABEL = re.compile(r"身份|證|证|HKID|(?<![A-Za-z])ID(?![A-Za-z])|identity", re.IGNORECASE)
_TRIAL = re.compile(r"(?:NCT|CTR|ISRCTN|UMIN|KCT|DRKS|IRCT|PMC|GSE|NM_|NP_|rs)\d", re.IGNORECASE)
_DATE = re.compile(
    r"(?:19|20)\d{2}(?:(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|[\-/.](?:0?[1-9]|1[0-2])[\-/.](?:0?[1-9]|[12]\d|3[01]))$|"
    r"(?:19|20)\d{2}-(?:19|20)?\d{2}$"
)


def labelled_numbers(text: str) -> Iterator[Span]:
    """Numbers behind a label, and identity and card numbers without one if their check digits are right."""
    for candidate in _CANDIDATE.finditer(text):
        start, end = candidate.span()
        if _YEAR.match(candidate[0]):
            continue
        # The letters of "ZY0012345" belong to it, and so does the bracket of a Hong Kong number.
        while start and start > candidate.start() - 5 and (text[start - 1] == "-" or _latin(text[start - 1])):
            start -= 1
        if text[start] == "-" or (start and (_latin(text[start - 1]) or text[start - 1] == "_")):
            continue
        found = _behind_a_label(text, start)
        if found is not None:
            yield found
        elif end - start >= 15:
            yield from _unlabelled(text, candidate.start(), end)
    if "(" in text or "（" in text:
        for match in _HONG_KONG.finditer(text):
            if _HONG_KONG_LABEL.search(text, max(0, match.start() - 24), match.start()) and hong_kong_identity(
                ascii_digits(match[0])
            ):
                yield Span(*match.span(), "ID", "id.hong_kong")


def _latin(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _behind_a_label(text: str, start: int) -> Span | None:
    window = text[max(0, start - _LONGEST_LABEL) : start]
    lowered = window.lower()
    for rule in _RULES:
        if not any(gate in lowered for gate in rule.gates) or rule.label.search(window) is None:
            continue
        value = rule.value.match(text, start)
        if value is None or _TRIAL.match(value[0]) or (_DATE.match(value[0]) and not _is_told(window, value[0])):
            continue
        digits = sum(character.isdecimal() for character in value[0])
        if 5 * digits < 2 * sum(character.isalnum() for character in value[0]):
            continue
        if rule.digits[0] <= digits <= rule.digits[1] and not measured(text, value.end(), value.end()):
            return Span(start, value.end(), rule.kind, rule.name)
    return None


def _is_told(window: str, value: str) -> bool:
    """Whether digits stand right behind a colon: in a form's field they are its number, whatever date they show."""
    return value.isdigit() and window.rstrip().endswith((":", "："))


def _unlabelled(text: str, start: int, end: int) -> Iterator[Span]:
    for match in _EIGHTEEN.finditer(text, start, min(len(text), end + 3)):
        if resident_identity(ascii_digits(match[0])):
            yield Span(*match.span(), "ID", "id.resident")
    for match in _CARD.finditer(text, start, min(len(text), end + 3)):
        if luhn(ascii_digits(match[0])) and not registered(text, match.start()) and not measured(text, *match.span()):
            yield Span(*match.span(), "ACCOUNT", "account.card")
