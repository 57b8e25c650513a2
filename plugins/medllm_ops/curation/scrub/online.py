"""E-mail addresses, IP addresses, profile pages and messenger accounts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import cache

from medllm_ops.curation.scrub.finding import Span

_LABEL = r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?)"
_LOCAL = r"(?<![A-Za-z0-9._%+\-])(?P<local>[A-Za-z0-9_](?:[A-Za-z0-9._%+'\-]{0,62}[A-Za-z0-9_\-])?)"
_TOP = r"(?P<top>[A-Za-z]{2,24})(?![A-Za-z0-9\-])"
_EMAIL = re.compile(rf"{_LOCAL}[@＠](?P<domain>(?:{_LABEL}[.．。]){{1,6}}){_TOP}")
_HIDDEN_EMAIL = re.compile(
    rf"{_LOCAL}(?:\s?[\[({{（【]\s?(?:at|AT|@)\s?[\])}}）】]\s?|\sAT\s)"
    rf"(?P<domain>(?:{_LABEL}(?:\s?[\[({{（【]\s?(?:dot|DOT|\.)\s?[\])}}）】]\s?|\sDOT\s|\.)){{1,5}}){_TOP}"
)
# A line wrap, or a writer who feared robots, put spaces around the @ or another sign in its place.
_SPACED_EMAIL = re.compile(
    rf"{_LOCAL}\s{{0,2}}[@＠#]\s{{0,2}}(?:(?:vip\.)?(?:qq|foxmail|163|126|139|189|sina|sohu|aliyun|yeah|gmail|outlook|"
    r"hotmail|yahoo|icloud|protonmail))\s?[.．]\s?(?:com\.cn|co\.uk|com|cn|net)(?![A-Za-z0-9\-])",
    re.IGNORECASE,
)
_LABELLED_EMAIL = re.compile(
    r"(?:(?<![A-Za-z⟨])e-?mail|电子邮[箱件]|邮箱)(?:地址|\saddress)?\s{0,2}[:：]\s{0,3}"
    rf"(?P<value>[A-Za-z0-9][A-Za-z0-9_.+\-]{{0,63}}@{_LABEL}(?:\.{_LABEL}){{0,4}})",
    re.IGNORECASE,
)
_CLOSING_BRACKET = re.compile(r"[\])}）】]")
# Providers whose names are digits; elsewhere "recall@10.in" is a measure.
_NUMERIC_PROVIDERS = frozenset(("163", "126", "139", "188", "189", "263", "51", "56", "2980"))


@cache
def _top_level_domains() -> frozenset[str]:
    """The public suffixes of one label, from the list inside tldextract's package: no network, no cache on disk."""
    import tldextract

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    return frozenset(suffix for suffix in extract.tlds if "." not in suffix and suffix.isascii())


def _is_domain(match: re.Match[str]) -> bool:
    """Whether it ends in a known domain, in one case (nanoparticles end in .Au), with a name before it."""
    top, name = match["top"], re.findall(r"[A-Za-z0-9\-]+", match["domain"])[-1]
    if not (top.islower() or top.isupper()) or (name.isdigit() and name not in _NUMERIC_PROVIDERS):
        return False
    return top.lower() in _top_level_domains()


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses, also with [at] and [dot], with spaces at known providers, and any labelled as such."""
    if "@" in text or "＠" in text:
        for match in _EMAIL.finditer(text):
            if match["local"] != "git" and _is_domain(match):
                yield Span(match.start(), match.end(), "EMAIL", "email")
        for match in _LABELLED_EMAIL.finditer(text):
            yield Span(*match.span("value"), "EMAIL", "email.labelled")
        for match in _SPACED_EMAIL.finditer(text):
            yield Span(*match.span(), "EMAIL", "email.spaced")
    elif "#" in text:
        for match in _SPACED_EMAIL.finditer(text):
            yield Span(*match.span(), "EMAIL", "email.spaced")
    if " AT " in text or _hides(text):
        for match in _HIDDEN_EMAIL.finditer(text):
            if _is_domain(match) and (" AT " not in match[0] or " DOT " in match[0]):
                yield Span(*match.span(), "EMAIL", "email.hidden")


def _hides(text: str) -> bool:
    """Whether some bracket ends on "at" or "@"."""
    return any(
        text[max(0, bracket.start() - 3) : bracket.start()].rstrip().endswith(("at", "AT", "At", "@"))
        for bracket in _CLOSING_BRACKET.finditer(text)
    )


_IP4 = re.compile(r"\d\d?\d?(?:\.\d{1,3}){3}(?:/\d{1,2})?(?![A-Za-z0-9]|[.\-]\d)")
_IP6 = re.compile(
    r"(?<![A-Za-z0-9:.])(?:[0-9A-Fa-f]{1,4}(?:::?[0-9A-Fa-f]{1,4}){2,7}(?:::)?|::[0-9A-Fa-f]{1,4}"
    r"(?::[0-9A-Fa-f]{1,4}){1,6})(?![A-Za-z0-9:])"
)
_IP_LABEL = re.compile(
    r"(?:(?<![A-Za-z])(?:IPv?[46]?|hosts?|servers?|ping|ssh|proxy|gateway|DNS|login|logged in|client|remote)"
    r"(?![A-Za-z])|服务器|主机|网关|登录|登陆|访问|代理|来源|源)(?:[\s_]?(?:address(?:es)?|addr|from|at)|地址|自|于|IP){0,2}"
    r"[\s:：=(（\[为是]{0,4}$",
    re.IGNORECASE,
)
_JOINED = re.compile(r"[A-Za-z0-9.:/\-]$(?<!IP[:/])(?<!ip[:/])(?<!//)")
_IP_OTHER = re.compile(
    r"(?:(?<![A-Za-z])(?:EC|E\.C\.|v|ver|version|table|fig(?:ure)?|section)|版本号?|版|第|表|图|节|章)[\s.:：]{0,2}$",
    re.IGNORECASE,
)


def ip_addresses(text: str) -> Iterator[Span]:
    """Addresses on the Internet: labelled, or of a shape that enzymes (EC 3.4.21.4), versions and titres lack."""
    if text.count(".") >= 3:
        for match in _IP4.finditer(text):
            before = text[max(0, match.start() - 30) : match.start()]
            if _JOINED.search(before):
                continue
            octets = [int(octet) for octet in match[0].split("/")[0].split(".")]
            if max(octets) > 255 or _IP_OTHER.search(before) or _inside(octets):
                continue
            if _IP_LABEL.search(before) or (octets[0] >= 10 and sum(octet >= 100 for octet in octets) >= 2):
                yield Span(*match.span(), "IP", "ip")
    if "::" in text or text.count(":") >= 7:
        for match in _IP6.finditer(text):
            if (
                re.search("[A-Fa-f]", match[0]) or _IP_LABEL.search(text[max(0, match.start() - 30) : match.start()])
            ) and ("::" in match[0] or match[0].count(":") == 7):
                try:
                    ipaddress.IPv6Address(match[0])
                except ValueError:
                    continue
                yield Span(*match.span(), "IP", "ip")


def _inside(octets: list[int]) -> bool:
    """Whether it is nobody's: used inside thousands of networks (RFC 1918), the machine itself, or a net mask."""
    return (
        octets[0] in (0, 10, 127)
        or octets[0] >= 224
        or octets[:2] == [192, 168]
        or (octets[0] == 172 and 16 <= octets[1] <= 31)
    )


_HANDLE_CHARACTERS = r"[A-Za-z0-9_.\-%\u4e00-\u9fff]{2,60}"
_PROFILE = re.compile(
    r"(?<![A-Za-z0-9.\-])(?:https?://)?(?:(?:www|m|mobile|cn|uk|[a-z]{2}-[a-z]{2})\.)?(?:"
    rf"linkedin\.com/(?:in|pub)/{_HANDLE_CHARACTERS}|"
    r"(?:facebook\.com/(?:profile\.php\?id=|people/)?|fb\.com/|twitter\.com/|x\.com/|instagram\.com/|threads\.net/@?|"
    r"t\.me/|wa\.me/|snapchat\.com/add/)(?!(?:home|share|sharer|intent|search|hashtag|groups|pages|watch|events|p|reel|"
    rf"explore|i|help|login|about|policies|tr)(?:[/.?#]|\b)){_HANDLE_CHARACTERS}|"
    rf"(?:weibo\.com/(?:u/|n/)?|weibo\.cn/(?:u/)?){_HANDLE_CHARACTERS}|zhihu\.com/people/{_HANDLE_CHARACTERS}|"
    rf"douyin\.com/user/{_HANDLE_CHARACTERS}|xiaohongshu\.com/user/profile/{_HANDLE_CHARACTERS}|"
    rf"space\.bilibili\.com/\d{{2,20}}|(?:tiktok|medium|youtube)\.com/@{_HANDLE_CHARACTERS}|"
    rf"researchgate\.net/profile/{_HANDLE_CHARACTERS}|user\.qzone\.qq\.com/\d{{5,12}}|"
    r"haodf\.com/(?:doctor|patient)/[A-Za-z0-9\-]{3,40})[^\s<>\"'⟨⟩，。；、）)\]]{0,80}",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(
    r"(?:(?<![A-Za-z⟨])(?:QQ|WeChat|Weixin|WhatsApp|Telegram|Skype|VX|V信|Twitter|Instagram)(?![A-Za-z])"
    r"|(?<!企业)(?:微信|薇信|威信)|抖音|微博|快手)"
    r"(?P<between>\s?(?:号码?|账号|帐号|ID|账户|number|no\.?|handle|account|同号|群号?|昵称)?\s{0,2}(?:[:：(（]|是|为)?\s{0,3})"
    r"(?P<value>@?[A-Za-z0-9_+][A-Za-z0-9_.\-]{3,30}[A-Za-z0-9_])(?![A-Za-z0-9_]|\s?[%％])",
    re.IGNORECASE,
)
_ACCOUNT_GATES = (
    "qq", "微信", "wechat", "weixin", "whatsapp", "telegram", "skype", "vx", "v信", "抖音", "微博", "薇信", "威信",
    "快手", "twitter", "instagram",
)  # fmt: skip
_SOCIAL_HANDLE = re.compile(
    r"(?<![A-Za-z0-9@._%+\-/])@[A-Za-z0-9_]{4,30}(?=\s?(?:on|\()\s?(?:Twitter|Instagram|X\b|Weibo))"
)


def profiles(text: str) -> Iterator[Span]:
    """Addresses of pages that belong to a person: profiles at networks, not other pages of theirs."""
    if ".com/" in text or ".me/" in text or ".cn/" in text or ".net/" in text:
        for match in _PROFILE.finditer(text):
            value = match[0].rstrip(".,:;!?")
            yield Span(match.start(), match.start() + len(value), "URL", "profile")


def accounts(text: str) -> Iterator[Span]:
    """Accounts at messengers and networks, where the service is named: ``QQ: 12345678``, ``微信号 abc_123``."""
    lowered = text.lower()
    if any(gate in lowered for gate in _ACCOUNT_GATES):
        for match in _ACCOUNT.finditer(text):
            # "WeChat groups" and "QQ plots" are no accounts: a colon says so, or digits in the name.
            if re.search("[:：号是为]", match["between"]) or len(re.findall(r"\d", match["value"])) > 1:
                yield Span(*match.span("value"), "HANDLE", "account")
        for match in _SOCIAL_HANDLE.finditer(text):
            yield Span(*match.span(), "HANDLE", "handle")
