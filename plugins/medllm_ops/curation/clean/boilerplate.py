"""What pages, publishers and portals put around a text: navigation, notices of copyright, set closings."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from medllm_ops.curation.clean.settings import BoilerplateSettings

LINE = "boilerplate.line"
COPYRIGHT = "boilerplate.copyright"
CLOSING = "boilerplate.closing"

_LONGEST_LINE = 120
# Whole lines, in any case. C4 drops each line with the word Javascript and pages with "terms of use"; here it must be
# the whole line, for a text may speak of its terms. RefinedWeb drops counters ("3 likes").
_ENGLISH = r"""
    (?:please\ )?(?:enable|turn\ on|activate)\ javascript.{0,60}|javascript\ (?:is\ (?:disabled|required)|must\ be\ enabled).{0,60}
    |(?:skip|jump)\ to\ (?:main\ )?(?:content|navigation)|back\ to\ top|(?:read|view|show|load)\ (?:more|less|all)\W{0,3}
    |(?:share|tweet|print|e-?mail)(?:\ (?:this|the)\ (?:page|article|post|story))?|share\ on(?:\W+(?:facebook|twitter|x|linkedin|whatsapp)){1,5}
    |(?:follow|like)\ us(?:\ on\ \w+)?|(?:subscribe|sign\ up)(?:\ (?:to|for)\ (?:our|the)\ newsletter)?\W?|click\ here(?:\ to\ .{0,40})?\W?
    |(?:log|sign)\ ?in(?:\W+(?:or\ )?(?:register|sign\ ?up))?|(?:download|view)\ (?:full[ -]text\ )?pdf|full\ text\ links?
    |(?:privacy\ policy|terms\ (?:of\ (?:use|service)|(?:and|&)\ conditions)|cookie\ policy|contact\ us|about\ us|home|sitemap)(?:\W+(?:privacy\ policy|terms\ (?:of\ (?:use|service)|(?:and|&)\ conditions)|cookie\ policy|contact\ us|about\ us|sitemap)){1,6}
    |privacy\ policy|cookie\ policy|terms\ of\ (?:use|service)|this\ (?:web)?site\ uses\ cookies.{0,80}
    |[\d,.]+k?\ (?:likes?|shares?|views?|comments?|followers?|retweets?)|(?:previous|next)\ (?:article|post|page)\W{0,3}
    |all\ rights\ reserved\.?|advertisements?|page\ \d+(?:\ of\ \d+)?|.{0,20}lorem\ ipsum.{0,100}
"""  # noqa: E501
_CHINESE = r"""
    (?:上|下)一(?:篇|页|章)(?:[:：].{0,60})?|返回(?:顶部|首页|目录|列表)|(?:点击|长按|扫描|扫码|识别)(?:这里|此处|上方|下方|图中)?.{0,8}(?:二维码|关注|查看(?:更多|原图|全文)?).{0,20}
    |(?:欢迎|请)?(?:关注|搜索)(?:我们的?|本站|官方)?(?:微信)?(?:公众号|微博|视频号).{0,40}|分享到?[:：]?(?:微信|微博|朋友圈|QQ空间|\W){0,10}
    |(?:版权所有|版权声明|著作权所有)[:：\s©]?.{0,80}|未经.{0,12}(?:许可|授权|同意|允许).{0,12}(?:不得|禁止|严禁).{0,30}(?:转载|使用|复制|摘编).{0,20}
    |(?:责任编辑|责编|本文编辑|网络编辑)[:：].{0,20}|(?:文章|本文|图片|稿件)来源[:：于自].{0,40}|(?:转载|原文)(?:请注明)?(?:出处|链接|地址)[:：].{0,80}
    |【?(?:字体|字号)[:：]?\W*大\W*中\W*小\W*|(?:打印|关闭|收藏)(?:本页|本文|窗口|网页)|(?:阅读|浏览|点击)(?:量|数|次数)?[:：]\s?\d+次?
    |(?:阅读|展开)(?:全文|原文|更多)|(?:查看|加载)更多|[京沪粤浙苏]ICP备\d+号.{0,20}|本页面?(?:由|已).{0,30}(?:整理|收录|生成)
"""
_LINE = re.compile(rf"\W{{0,3}}(?:{_ENGLISH}|{_CHINESE})\W{{0,3}}", re.IGNORECASE | re.VERBOSE)

# At the end of a text, behind the end of a sentence: © 2020 Publisher. All rights reserved.
_COPYRIGHT = re.compile(
    r"(?:(?<=[.!?)\]。！？])\s*|^)"
    r"(?:©|\(c\)\s{0,2}(?=(?:19|20)\d\d)|copyright\s{0,2}(?:©|\(c\)|(?:19|20)\d\d)|版权所有).{0,280}$",
    re.IGNORECASE | re.MULTILINE,
)
_COPYRIGHT_SIGNS = ("©", "(c)", "(C)", "opyright", "版权所有")
# How portals for questions close every answer: 以上是对“…”这个问题的建议，希望对您有帮助，祝您健康！
_CLOSING = re.compile(
    r"\s*以上是对[“\"「『][^”\"」』\n]{1,200}[”\"」』](?:这个|的)?问题的(?:建议|回答|解答)[^\n。！!]{0,40}[。！!]?\s*\Z"
)
_CLOSING_SIGN = "以上是对"


@lru_cache(maxsize=16)
def _more(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


def without_boilerplate(text: str, document: bool, settings: BoilerplateSettings, marks: Counter[str]) -> str:
    """A document without lines of boilerplate and without a copyright notice at its end; an answer without its closing.

    Lines longer than 120 characters are text and stay, whatever they hold.
    """
    if _CLOSING_SIGN in text and (closing := _CLOSING.search(text)) and closing.start():
        text = text[: closing.start()]
        marks[CLOSING] += 1
    if document:
        text = _without_lines(text, _more(settings.more_lines), marks)
        # A line of its own, or the end of the last one: what is behind a notice would be lost with it.
        end = text[-400:]
        if any(sign in end for sign in _COPYRIGHT_SIGNS):
            last = len(text) - len(end) + end.rfind("\n") + 1
            if (notice := _COPYRIGHT.search(text, last)) and notice.end() == len(text) and notice.start():
                text = text[: notice.start()].rstrip()
                marks[COPYRIGHT] += 1
    return text


def _without_lines(text: str, more: tuple[re.Pattern[str], ...], marks: Counter[str]) -> str:
    lines = text.split("\n")
    kept = [line for line in lines if not _is_boilerplate(line, more)]
    if len(kept) == len(lines):
        return text
    marks[LINE] += len(lines) - len(kept)
    return "\n".join(kept)


def _is_boilerplate(line: str, more: tuple[re.Pattern[str], ...]) -> bool:
    if not line or len(line) > _LONGEST_LINE:
        return False
    return _LINE.fullmatch(line) is not None or any(pattern.fullmatch(line) for pattern in more)
