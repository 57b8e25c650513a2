"""Chinese addresses: a road with a house number, a building with a flat, a village with its group, or labelled ones.

Cities, districts and hospitals alone are no addresses: 浙江省杭州市, 北京市第三医院 stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.curation.scrub.finding import Span

_PROVINCE = (
    "北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃|"
    "青海|台湾|内蒙古|广西|西藏|宁夏|新疆|香港|澳门"
)
_NUMERAL = "一二三四五六七八九十百〇零"
# 号 also counts chromosomes, lines, recipes, patients and samples.
_COUNTED = "染|线|方|元|位|段|丸|汤|机|针|穴|受试|患者|病人|病例|样|组|文|令|公告|刀|孔|导联|池|井|车|菌|血清|蛋白"
_HOUSE = (
    rf"(?:\d{{1,5}}|[{_NUMERAL}]{{1,6}})(?:\s?[\-—–之]\s?\d{{1,4}})?\s?(?:号院?(?!{_COUNTED})|弄(?:\s?\d{{1,4}}\s?号)?)"
)
# The heart of an address, which is looked for first; its head is read backwards from here.
_HEART = re.compile(rf"(?P<end>大道|大街|胡同|路|街|巷|弄|里|道|坊|条|段)\s?(?P<house>{_HOUSE})")
_FLAT = re.compile(
    r"[\dA-Z]{1,4}\s?(?:号楼|栋|幢|座)\s?(?:[一二三四五六七八九十\d甲乙A-Z]{1,2}\s?(?:单元|门)\s?)?\d{3,5}\s?(?:室|号|户|房)?(?!\d)|"
    r"\d{1,2}\s?单元\s?\d{3,4}\s?(?:室|号|户)?(?!\d)"
)
_VILLAGE = re.compile(
    rf"(?:村|屯|庄|寨|社区|大队)(?:民?委员?会)?\s?(?:[\d{_NUMERAL}]{{1,4}}\s?(?:组|社|队|屯)(?!长)|\d{{1,4}}\s?号(?!{_COUNTED}))"
)
_TAIL = re.compile(
    rf"(?:\s?[\-,，、]?\s?[一-龥]{{0,10}}?[\dA-Za-z{_NUMERAL}]{{1,5}}\s?(?:号楼|号院|栋|幢|座|单元|层|楼|室|户|房间|房)){{1,5}}(?:(?<=[栋幢座元楼层])[\-]?\d{{2,4}}(?!\d))?"
)
_RUN = re.compile(r"[一-龥](?:[一-龥]|(?<=[省市区县旗镇乡村州盟道])\s|(?<=\d)(?=[号弄村])|\d(?=[\d号弄村]))*$")
# What a sentence says before an address, and what no place has in its name.
_BEFORE = re.compile(
    r".*(?:住址|地址|现住|家住|居住|住在|住于|位于|坐落|来自|前往|寄往|寄到|送到|搬至|搬到|[住在到至往址是为的于给我他她])(?=.)"
)
_AREA = re.compile(rf"(?:{_PROVINCE})[一-龥\s]*$")
_ADMINISTERED = re.compile(rf"[省市区县旗镇乡州盟]|^(?:{_PROVINCE})")
_PATHWAY = re.compile("(?:通|旁|尿|径|线|电|气|回|环|水|网|末|思|出|退|气血|来|去|走|跑|半|一)$")
_ESTATE = re.compile("小区|花园|花苑|苑|公寓|家园|新村|宿舍|家属院|大院|名城|新城|府|庭|嘉园|里|园|城|居|湾|邨")
_LONGEST_HEAD = 40

_LABEL = (
    "家庭住址|家庭地址|现住址|现住地址|常住地址|户籍地址|户口地址|户籍所在地|户口所在地|居住地址|联系地址|通讯地址|通信地址|邮寄地址|"
    "收件地址|收货地址|详细地址|单位地址|医院地址|身份证地址|住址|住所|住处|地址"
)
_LABELLED = re.compile(
    rf"(?<![A-Za-z网站件箱页物存])(?:{_LABEL})(?:\s{{0,4}}[:：]|[ \t\u3000]|(?P<told>为|是))\s{{0,4}}"
    r"(?P<value>[^\s，。；;,、⟨⟩|｜!！?？][^，。；;\n⟨⟩|｜!！?？]{1,60})"
)
_LABEL_GATES = ("住址", "地址", "住所", "所在地", "住处")
_SOME_PLACE = re.compile(rf"{_PROVINCE}|[一-龥](?:省|市|区|县|镇|乡|村|路|街|巷|弄|号|苑|花园|小区|大厦|公寓|里)")
_FIELD = re.compile(
    r"\s*(?:邮编|邮政编码|电话|手机|联系|传真|网址|邮箱|E-?mail|Tel|姓名|性别|年龄|职业|入院|民族|婚姻|出生|身份证)|\s+[一-龥]{2,6}\s?[:：]|\s{2,}|\t",
    re.IGNORECASE,
)
_POSTCODE = re.compile(r"(?:邮编|邮政编码|邮码)(?:\s?[:：]|为|是)?\s{0,3}(?P<value>\d{6})(?!\d)")


def chinese_addresses(text: str) -> Iterator[Span]:
    """Addresses, from the province (or as much of the head as there is) to the room."""
    if "号" in text or "弄" in text:
        for heart in _HEART.finditer(text):
            start = _head(text, heart.start())
            head = text[start : heart.start()]
            administered = _ADMINISTERED.search(head) is not None
            plain = heart["end"] not in "里道坊条段" and heart["house"][0].isdigit() and not _PATHWAY.search(head)
            if head and (administered or plain):
                yield Span(start, _tail(text, heart.end()), "ADDRESS", "address.road")
    if any(sign in text for sign in ("单元", "号楼", "栋", "幢", "座")):
        for flat in _FLAT.finditer(text):
            start = _head(text, flat.start())
            head = text[start : flat.start()]
            if "单元" in flat[0] or _ESTATE.search(head) or (_ADMINISTERED.search(head) and "室" in flat[0]):
                yield Span(start, _tail(text, flat.end()), "ADDRESS", "address.flat")
    if any(sign in text for sign in ("村", "屯", "庄", "寨", "社区", "大队")):
        for village in _VILLAGE.finditer(text):
            start = _head(text, village.start())
            if _ADMINISTERED.search(text[start : village.start()]):
                yield Span(start, _tail(text, village.end()), "ADDRESS", "address.village")
    if any(gate in text for gate in _LABEL_GATES):
        yield from _labelled(text)
    if "邮" in text:
        for code in _POSTCODE.finditer(text):
            yield Span(*code.span("value"), "ADDRESS", "address.postcode")


def _head(text: str, end: int) -> int:
    """Where the address begins whose road, building or village ends at ``end``."""
    run = _RUN.search(text, max(0, end - _LONGEST_HEAD), end)
    if run is None:
        return end
    area = _AREA.search(text, run.start(), end)
    if area is not None:
        return area.start()
    before = _BEFORE.match(text, run.start(), end)
    return before.end() if before is not None else run.start()


def _tail(text: str, start: int) -> int:
    tail = _TAIL.match(text, start)
    return tail.end() if tail is not None else start


def _labelled(text: str) -> Iterator[Span]:
    for match in _LABELLED.finditer(text):
        start, end = match.span("value")
        field = _FIELD.search(text, start, end)
        if field is not None:
            end = field.start()
        if (_ADMINISTERED if match["told"] else _SOME_PLACE).search(text, start, end):
            yield Span(start, end, "ADDRESS", "address.labelled")
