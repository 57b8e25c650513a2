"""What stands around a number and says that it is no personal one: a registry's name before it, a unit after it."""

from __future__ import annotations

import re

# Read at the end of the text before a number; an opening bracket, a colon or "No." may stand between.
_REGISTERED = re.compile(
    r"(?:(?<![A-Za-z])(?:NCT|ChiCTR(?:-[A-Z]{2,6})?|ISRCTN|ACTRN|EudraCT|EUCTR|EU ?CT|CTRI|UMIN|jRCTs?|KCT|DRKS|IRCT|"
    r"NTR|PACTR|TCTR|RBR|CTR|PROSPERO|CRD|PMID|PMCID|PMC|DOI|ISBN(?:-1[03])?|e?ISSN|EAN|CAS|GEO|GSE|SR[RAPX]|EGA|"
    r"PRJNA|GenBank|OMIM|MIM|UniProt|Entrez|Gene ?ID|dbSNP|rs|chr(?:omosome)?|ATCC|CGMCC|CID|CHEBI|DrugBank|HMDB|"
    r"UNII|RRID|NDC|UDI|GTIN|SN|S/N|REF|grants?|funding|award|contract|project|patents?|batch|lots?|catalog(?:ue)?|"
    r"cat|serial|version|ver|release|vol(?:ume)?|pages?|pp|accession|identifier|registration|registered|protocol|"
    r"ethics?|IRB|approval|order|invoice|tracking|SKU|barcode|model)|"
    r"批准文号|国药准字|卫食健字|国食健字|注册证?编?号|登记编?号|备案编?号|批次?号|货号|条形?码|订单号?|专利号?|序列号?|型号|编号|"
    r"编码|项目号|课题号|基金号?|资助号|伦理号|批件号|审批号|批准号|受理号|许可证号?|合同号|发票号码?|快递单号|运单号|单号|产品标识|"
    r"索引号|书号|刊号|信用代码|标准号|版本号?|流水号|随机号|入组号|文献号|期刊号|页码?|第)"
    r"[\s.:：#№=＝\-‐–—()（）\[\]【】]{0,4}(?:(?:numbers?|nos?|id|ids|为|是|is)[\s.:：#]{0,3})?$",
    re.IGNORECASE,
)
_DOI = re.compile(r"(?<!\d)10\.\d{4,5}/\S*$")
_COMPUTED = re.compile(
    r"[=＝×*<>≤≥≈~～±^√]\s{0,2}$|(?:总?数|数值|总量|总计|共计|(?<!预)约|高达|超过|滴度|载量|浓度|比例?|比值|评分|"
    r"(?<![A-Za-z])(?:ratios?|scores?|counts?|reads|sizes?|doses?|values?|levels?|range|ranged from))[:：]?\s{0,2}$",
    re.IGNORECASE,
)
# One space behind the number. What has another meaning in capitals counts in small letters only: in "MRN: 1234567 M",
# "Tel: 1234567 BP: 120/80" and "MRN: 1234567 Patient:" the next field begins.
_UNIT = re.compile(
    r"[ \u00a0\u2009\u202f]?(?:(?:[mμµnpk]g|[mμµd]l|[mμµn]?mol|mmHg|IU|cfu|pfu|k?Da|k?Hz|k?cal|kJ|mm\d|rpm|cpm|"
    r"USD|RMB|CNY|(?-i:[gmlhsLU]|[cmkn]m|[kM]?bp?|min|cop(?:ies)?|cells?|reads?|counts?|units?|rows?|records?|patients?|people|"
    r"persons?|cases?|participants?|women|men|children|subjects?|individuals?|bases|samples?|births?|deaths?|dollars?|"
    r"yuan|years?|days?|months?|hours?|enrollees|beneficiaries|holders|claims|residents|"
    r"employees))(?![A-Za-z0-9])|"
    r"[%％‰℃°^]|[×*]\s?\d|/\s?(?:[mμµ]?l|kg|mm|d|h|HP|HPF)(?![A-Za-z])|"
    r"毫克|微克|千克|公斤|毫升|拷贝|单位|万|亿|例|人次|元|碱基|份|个(?!人)|"
    # Other words begin with these: 人员类别, 人流术后, 名称, 户口, 次日.
    r"[人名户次册](?=[\s，。、；：,.;:()（）]|$|患者|病人|居民|职工))",
    re.IGNORECASE,
)


def registered(text: str, start: int) -> bool:
    """Whether a registry, a catalogue or a kind of count is named right before ``start``: a trial, a grant, a lot.

    So it is inside a DOI, whose end can be any row of digits.
    """
    before = text[max(0, start - 40) : start]
    return _REGISTERED.search(before) is not None or _DOI.search(before) is not None


def measured(text: str, start: int, end: int) -> bool:
    """Whether ``text[start:end]`` is a quantity: a sign of arithmetic before it or a unit after it."""
    return (
        _UNIT.match(text, end, end + 16) is not None or _COMPUTED.search(text[max(0, start - 14) : start]) is not None
    )
