"""Chinese names, only behind a label of a form: 联系人：, 患者姓名：, 医师签名：."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.curation.scrub.finding import Span
from medllm_ops.curation.scrub.latin_names import latin_name

# The surnames of some 99 in 100 people in China, simplified and traditional; those of two characters first.
_DOUBLE = "欧阳|歐陽|上官|司马|司馬|诸葛|諸葛|东方|皇甫|尉迟|公孙|慕容|令狐|宇文|长孙|司徒|夏侯|端木|轩辕|南宫"
_SINGLE = (
    "王李张張刘劉陈陳杨楊黄黃赵趙吴吳周徐孙孫马馬朱胡郭何林罗羅高郑鄭梁谢謝宋唐许許邓鄧冯馮韩韓曹曾彭萧蕭肖蔡潘田董袁于余"
    "叶葉蒋蔣杜苏蘇魏程吕呂丁沈任姚卢盧傅钟鍾姜崔谭譚廖范汪陆陸金石戴贾賈韦韋夏邱方侯邹鄒熊孟秦白江阎閻薛尹段雷黎史龙龍陶贺賀"
    "顾顧毛郝龚龔邵万萬钱錢严嚴覃武戚莫孔向汤湯常温康施文牛樊葛邢安齐齊易乔喬伍庞龐颜顏倪庄莊聂聶章鲁魯岳翟殷詹申欧耿关關兰蘭"
    "焦俞左柳甘祝包宁寧尚符舒阮柯纪紀梅童凌毕畢单單季裴霍涂成苗谷曲盛冉骆駱翁蓝藍路游辛靳管柴蒙鲍鮑华華喻祁蒲房滕屈饶饒解牟艾"
    "尤阳陽时時穆农司卓古吉缪简簡车車项項连連芦麦麥褚娄婁窦竇岑景党宫宮费費卜晏席卫衛米柏宗瞿桂佟臧闵閔苟邬鄔边邊卞姬师師仇栾"
    "欒隋刁荣榮巫寇桑郎甄丛叢仲虞敖明佘池麻苑迟遲鞠匡惠荆乐樂冀胥栗燕楚鄢谌奚粟冼蔺闫"
)
_SURNAME = f"(?:{_DOUBLE}|[{_SINGLE}])"
_HAN = "[一-龥]"
_TITLE = "(?:先生|女士|小姐|太太|同志|医生|醫生|医师|醫師|大夫|护士长|护士|主任|教授|老师|经理|院长|博士|科长|主管|同学|阿姨|大爷|大妈|师傅)"
_NAME = (
    rf"(?:{_SURNAME}(?:{_HAN}{{1,2}}{_TITLE}|{_TITLE}|{_HAN}{{1,2}}|\s{{1,3}}{_HAN}{{1,2}})"
    rf"|{_HAN}{{1,8}}[·•・]{_HAN}{{1,8}})"
)
_PERSON = (
    "患者|病人|病员|产妇|患儿|家属|家长|联系人|就诊人|申请人|受检者|受检人|投保人|被保险人|收件人|收货人|寄件人|监护人|法定代理人|"
    "紧急联系人|陪护人?|父亲|母亲|配偶|本人|医师|医生|护士|参保人|持卡人|开户人|受试者|研究者|申报人|客户|会员|学生|员工"
)
_DUTY = (
    "主治|主管|经治|住院|接诊|首诊|值班|审核|报告|检查|诊断|记录|书写|上级|责任|麻醉|手术|超声|操作|处方|开方|送检|申请|管床|执行|"
    "核对|带教|审方|调配|发药|检验|采样|随访"
)
_WORKER = "医师|醫師|医生|护士|药师|技师|大夫|者|人|员"
_LABEL = (
    rf"(?:{_PERSON})?(?:姓\s{{0,4}}名|名字)|(?:紧急)?联[系络]人|聯[絡繫]人|联络员|收件人|收货人|寄件人|监护人|法定代理人|持卡人|户名|开户名|"
    rf"收款人|(?:{_PERSON}|(?:{_DUTY})(?:{_WORKER})?|科主任|院长|主任)?(?:签名|签字|簽名)|(?:{_DUTY})(?:{_WORKER})|主刀(?:医[师生])?|术者|"
    r"(?:病史)?陈述者|患者家属"
)
# Labels are looked for behind colons, of which there are few; with a blank instead, only those of a form.
_COLON = re.compile(r"[:：]\s{0,4}[_＿]{0,8}")
_LABELLED = re.compile(rf"(?:{_LABEL})(?:\s{{0,2}}[(（][^()（）\d\n]{{1,12}}[)）])?\s{{0,4}}$")
_BLANK = re.compile(r"(?:姓\s{0,4}名|签名|签字|联系人|医师|医生)[ \t\u3000|｜_＿]{1,6}")
_BLANK_GATES = ("姓名", "姓 ", "姓\u3000", "签名", "签字", "联系人", "医师", "医生")
_LONGEST_LABEL = 26
_VALUE = re.compile(
    rf"(?P<name>{_NAME})(?=$|[\s，,。；;、.（(/／|｜⟨\[【）)\]_＿<《:：!！]|性别|男|女|年龄|电话|手机|联系|住址|身份|\d|签|和|及|与|或|主治|联络)"
)
_FURTHER = re.compile(rf"[、/／,，和及与]\s?(?P<name>{_SURNAME}{_HAN}{{1,2}})(?=$|[\s，,。；;、.（(/／|⟨）)])")
# Words that begin like a name and stand behind 姓名 or 签名 in forms and in sentences.
_WORDS = frozenset(
    "不详 时间 成员 高度 于是 方法 方式 明确 安全 安排 白色 文件 单位 时候 常规 解释 关系 关于 马上 任何 何时 何人 有关 包括 左侧 左手 "
    "万一 连同 成人 成年 温馨 方可 方能 安静 封面 官方 农民 车主 师生 项目 简称 单独 乐观 明天 明显 党员 高级 高年资 主任 方面 石膏 白天 "
    "严格 高兴 明白 钱包 文字 金额 易于 成功 连续 解除 管理 常见 温度 白细胞 高血压 黄疸 马来酸 金银花 石决明 白术 何首乌 黄芪 党参 "
    "安慰剂 古代 农历 路过 向前 管床 严重 单侧 项目组 温和 成年人 边缘 明细 时长 常用 关键 关注 房间 车辆 连接 边界 方案 章程".split()
)


def chinese_names(text: str) -> Iterator[Span]:
    """Names behind a label: surname and given name, surname and title, or names with a middle dot."""
    if "：" in text or ":" in text:
        for colon in _COLON.finditer(text):
            before = text[max(0, colon.start() - _LONGEST_LABEL) : colon.start()]
            if before.isascii() or _LABELLED.search(before) is None:
                continue
            if _VALUE.match(text, colon.end()) is not None:
                yield from _at(text, colon.end())
            elif (end := latin_name(text, colon.end(), alone=False)) is not None:
                yield Span(colon.end(), end, "NAME", "name.label")
    if any(gate in text for gate in _BLANK_GATES):
        for blank in _BLANK.finditer(text):
            yield from _at(text, blank.end())


def _at(text: str, start: int) -> Iterator[Span]:
    value = _VALUE.match(text, start)
    while value is not None:
        name = value["name"]
        if name in _WORDS or name[:2] in _WORDS or "某" in name:
            break
        yield Span(*value.span("name"), "NAME", "name.chinese")
        value = _FURTHER.match(text, value.end("name"))
