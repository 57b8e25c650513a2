"""robots.txt (RFC 9309), read by the standard library's parser, with the things that it leaves out."""

from __future__ import annotations

import math
import re
from urllib.parse import unquote, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

from medllm_ops.fetch.base import FetchError
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.http_answers import HttpError

_FORBIDS_ALL = (401, 403)
_NOT_NOW = (408, 425, 429)
_RULES = ("allow", "disallow", "crawl-delay", "request-rate")
_FRACTION = re.compile(r"[0-9]*\.[0-9]+")
_WILDCARD = re.compile(r"\s*disallow\s*:\s*(/[^\s#]*[*$][^\s#]*)", re.IGNORECASE)


class Robots:
    """What a site allows a crawler.

    Rules with wildcards, which the standard library does not know, count whoever they are meant for: rather too few
    pages than one that is forbidden.

    :param text: the content of robots.txt.
    :param user_agent: how the crawler introduces itself; its first word names it.
    """

    def __init__(self, text: str, user_agent: str) -> None:
        self._agent = user_agent
        lines = text.removeprefix("\ufeff").splitlines()
        self._parser = RobotFileParser()
        self._parser.parse(_joined(lines))
        self._wildcards = [_pattern(found[1]) for line in lines if (found := _WILDCARD.match(line))]

    @classmethod
    def read(cls, base_url: str, user_agent: str, client: Client) -> Robots:
        """Fetch the robots.txt of a site. Without one everything is allowed; one that is kept secret forbids all.

        :raises FetchError: if the site cannot say now what it allows.
        """
        url = urljoin(base_url, "/robots.txt")
        try:
            text = client.get(url, headers={"User-Agent": user_agent}).content.decode("utf-8", "replace")
        except HttpError as error:
            if error.status in _FORBIDS_ALL:
                return cls("User-agent: *\nDisallow: /", user_agent)
            if 400 <= error.status < 500 and error.status not in _NOT_NOW:
                return cls("", user_agent)
            raise FetchError(
                f"nothing is fetched, for the site does not say what it allows: {error}; run the refresh again later"
            ) from error
        return cls(text, user_agent)

    def allows(self, url: str) -> bool:
        """Whether the crawler may ask for this address."""
        parts = urlsplit(url)
        path = unquote(f"{parts.path}?{parts.query}" if parts.query else parts.path)
        return self._parser.can_fetch(self._agent, url) and not any(rule.match(path) for rule in self._wildcards)

    def pause(self, delay: tuple[float, float]) -> tuple[float, float]:
        """The seconds between two requests, at least and at most: what is asked for, or longer if the site says so."""
        asked = float(self._parser.crawl_delay(self._agent) or 0)
        if rate := self._parser.request_rate(self._agent):
            asked = max(asked, rate.seconds / max(1, rate.requests))
        return max(delay[0], asked), max(delay[1], asked)


def _joined(lines: list[str]) -> list[str]:
    """The same rules, one group for each crawler, the longest path first.

    The standard library ends a group at an empty line, reads only a crawler's first one, and takes the first rule that
    fits; the standard takes all of them, and the longest.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    agents: list[str] = []
    has_rules = False
    for line in lines:
        key, _, value = (part.strip() for part in line.partition("#")[0].partition(":"))
        key = key.lower()
        if key == "user-agent":
            agents = [*([] if has_rules else agents), value.lower()]
            has_rules = False
        elif key in _RULES:
            has_rules = True
            if key == "crawl-delay" and _FRACTION.fullmatch(value):
                value = str(math.ceil(float(value)))  # the standard library knows whole seconds only
            for agent in agents:
                groups.setdefault(agent, []).append((key, value))
    joined = []
    for agent, rules in groups.items():
        rules.sort(key=lambda rule: (-len(unquote(rule[1])), rule[0]))
        joined += [f"User-agent: {agent}", *(f"{key}: {value}" for key, value in rules), ""]
    return joined


def _pattern(path: str) -> re.Pattern[str]:
    path, end = (path[:-1], "$") if path.endswith("$") else (path, "")
    return re.compile(".*".join(map(re.escape, unquote(path).split("*"))) + end)
