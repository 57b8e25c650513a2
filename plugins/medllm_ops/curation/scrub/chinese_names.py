"""Chinese names, only behind a label of a form: 联系人：, 患者姓名：, 医师签名：."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.curation.scrub.finding import Span
from medllm_ops.curation.scrub.latin_names import latin_label, latin_name
from medllm_ops.curation.scrub.word_lists import word_list

# The surnames of some 99 in 100 people in China, simplified and traditional; those of two characters come first.
_SURNAME = f"(?:{'|'.join(word_list('chinese_surnames'))})"
# Words that begin like a name and stand behind 姓名 or 签名 in forms and in sentences.
_WORDS = frozenset(word_list("no_chinese_names"))
_HAN = "[一-龥]"
_TITLE = (
    "(?:先生|女士|小姐|太太|同志|医生|醫生|医师|醫師|大夫|护士长|护士|主任|教授|老师|经理|院长|博士|科长|主管|"
    "同学|阿姨|大爷|大妈|师傅)"
)
_NAME = (
    rf"(?:{_SURNAME}(?:{_HAN}{{1,2}}{_TITLE}|{_TITLE}|{_HAN}{{1,2}}|\s{{1,3}}{_HAN}{{1,2}})"
    rf"|{_HAN}{{1,8}}[·•・]{_HAN}{{1,8}})"
)
_PERSON = (
    "患者|病人|病员|产妇|患儿|家属|家长|联系人|就诊人|申请人|受检者|受检人|投保人|被保险人|收件人|收货人|寄件人|"
    "监护人|法定代理人|紧急联系人|陪护人?|父亲|母亲|配偶|本人|医师|医生|护士|参保人|持卡人|开户人|受试者|研究者|"
    "申报人|客户|会员|学生|员工"
)
_DUTY = (
    "主治|主管|经治|住院|接诊|首诊|值班|审核|报告|检查|诊断|记录|书写|上级|责任|麻醉|手术|超声|操作|处方|开方|送检|"
    "申请|管床|执行|核对|带教|审方|调配|发药|检验|采样|随访|随诊|洗手|巡回"
)
_WORKER = "医师|醫師|医生|护士|药师|技师|大夫|者|人|员"
_LABEL = (
    rf"(?:{_PERSON})?(?:姓\s{{0,4}}名|名字)|(?:紧急)?联[系络]人|聯[絡繫]人|联络员|收件人|收货人|寄件人|监护人|"
    rf"法定代理人|持卡人|户名|开户名|收款人|患者家属|(?:{_DUTY})(?:{_WORKER})|主刀(?:医[师生])?|术者|[一二三]助|通[信讯]作者|(?:病史)?陈述者|"
    rf"(?:{_PERSON}|(?:{_DUTY})(?:{_WORKER})?|科主任|院长|主任)?(?:签名|签字|簽名)"
)
# Labels are looked for behind colons, of which there are few; with a blank instead, only those of a form.
_COLON = re.compile(r"[:：]\s{0,4}[\"“']?[_＿]{0,8}")
_LABELLED = re.compile(
    rf"(?:{_LABEL})(?:[及和与/／、](?:联系)?(?:电话|手机|方式|关系))?(?:\s{{0,2}}[(（][^()（）\d\n]{{1,12}}[)）])?\s{{0,4}}$"
)
_LAST_OF_LABELS = frozenset("名字人员者师師生士夫属主刀助话机式系)）")
_BLANK = re.compile(r"(?:姓\s{0,4}名|签名|签字|联系人|医师|医生)[ \t\u3000|｜_＿]{1,6}")
_BLANK_GATES = ("姓名", "姓 ", "姓\u3000", "签名", "签字", "联系人", "医师 ", "医生 ", "医师\u3000", "医生\u3000")
_LONGEST_LABEL = 26
_END = (
    r"(?=$|[\s\"”'，,。；;、.（(/／|｜⟨\[【）)\]_＿<《:：!！]|性别|男|女|年龄|电话|手机|联系|住址|身份|\d|签|和|及|与|或|"
    "主治|联络|收)"
)
_VALUE = re.compile(rf"(?P<name>{_NAME}){_END}")
_FURTHER = re.compile(rf"[、/／,，和及与]\s?(?P<name>{_SURNAME}{_HAN}{{1,2}})(?=$|[\s，,。；;、.（(/／|⟨）)])")

_PATIENTS = ("患者", "病人", "受检者", "就诊人")
_NEXT_FIELD = re.compile(
    r"[\s，,、；;|｜]{0,6}(?:性别|男|女|年龄|\d{1,3}\s?岁|住院号|病案号|门诊号|身份证|(?:联系)?电话|床号|科室|科别|⟨)"
)
# No labels, but nothing else stands there: "患者X，男，63岁", a letter's "X收", "X先生，电话".
_SENTENCES = (
    (
        ("患者", "病人", "兹有"),
        re.compile(
            rf"(?:患者|病人|兹有)(?P<name>{_SURNAME}{_HAN}{{1,2}})(?=[，,（(、\s]{{1,2}}(?:男|女|性别|身份证|⟨ID⟩))"
        ),
    ),
    (("收",), re.compile(rf"⟨ADDRESS⟩[，,\s]{{0,3}}(?P<name>{_SURNAME}{_HAN}{{1,2}}?)(?=\s?[(（]?收)")),
    (
        ("先生", "女士", "小姐"),
        re.compile(
            rf"(?<![一-龥])(?P<name>{_SURNAME}{_HAN}{{0,2}}(?:先生|女士|小姐))"
            r"(?=[，,：:\s]{0,3}(?:(?:联系)?电话|手机|⟨PHONE⟩))"
        ),
    ),
)


def chinese_names(text: str) -> Iterator[Span]:
    """Names behind a label: surname and given name, surname and title, or names with a middle dot."""
    if "：" in text or ":" in text:
        for colon in _COLON.finditer(text):
            before = text[max(0, colon.start() - _LONGEST_LABEL) : colon.start()].rstrip(" \t\"”'")
            if not _labels_a_name(before):
                if before.endswith(_PATIENTS):
                    yield from (name for name in _at(text, colon.end()) if _NEXT_FIELD.match(text, name.end))
                continue
            if _VALUE.match(text, colon.end()) is not None:
                yield from _at(text, colon.end())
            elif (end := latin_name(text, colon.end(), alone=False)) is not None:
                yield Span(colon.end(), end, "NAME", "name.label")
    for gates, pattern in _SENTENCES:
        if any(gate in text for gate in gates):
            for sentence in pattern.finditer(text):
                yield from _at(text, sentence.start("name"))
    if any(gate in text for gate in _BLANK_GATES):
        for blank in _BLANK.finditer(text):
            yield from _at(text, blank.end())


def _labels_a_name(before: str) -> bool:
    if before.isascii():
        return latin_label(before) is not None
    return before[-1:] in _LAST_OF_LABELS and _LABELLED.search(before) is not None


def _at(text: str, start: int) -> Iterator[Span]:
    value = _VALUE.match(text, start)
    while value is not None:
        name = value["name"]
        if name in _WORDS or name[:2] in _WORDS or "某" in name:
            break
        yield Span(*value.span("name"), "NAME", "name.chinese")
        value = _FURTHER.match(text, value.end("name"))
