from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from medllm_ops.report.data.build import build_data_report

Make = Callable[..., Path]

# Relative luminance and contrast as WCAG 2.2 defines them, of every text against what is behind it.
LOWEST_CONTRAST = """() => {
  const parse = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith('color(srgb') ? 255 : 1;
    return [found[0] * scale, found[1] * scale, found[2] * scale, found.length > 3 ? found[3] : 1];
  };
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, share, n) => {
    const v = c[n] / 255;
    return sum + share * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  }, 0);
  const over = (top, under) => [0, 1, 2].map((n) => top[n] * top[3] + under[n] * (1 - top[3])).concat(1);
  let lowest = [99, ''];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.data.trim() || element.closest('svg, script') || !element.getClientRects().length) continue;
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.unshift(parse(getComputedStyle(each).backgroundColor));
    }
    const behind = layers.reduce((under, top) => over(top, under), [255, 255, 255, 1]);
    const ink = over(parse(getComputedStyle(element).color), behind);
    const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, element.className + ': ' + node.data.slice(0, 60)];
  }
  return lowest;
}"""


@pytest.mark.parametrize(("width", "theme"), [(1200, "light"), (1200, "dark"), (390, "light"), (390, "dark")])
def test_a_browser_shows_all_of_it_and_fetches_nothing(
    browser: Browser, make: Make, source: Any, width: int, theme: str
) -> None:
    name = "x" * 70
    before = make("before")
    after = make("after" * 12, {name: source("en", 90), "pubmed": source("zh", 700)}, changed=3, shift=9)
    address = build_data_report(after, before).as_uri()
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    fetched: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    # The funnel's two bars, before and now in four plots of drift.
    traces = page.locator("[data-figure] .cartesianlayer .trace")
    traces.nth(2 + 4 * 2 - 1).wait_for(state="attached")
    assert traces.count() == 2 + 4 * 2
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrast, where = page.evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, where
    # What is wide scrolls within itself, and can be reached by the keyboard.
    wide = "[...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth + 1)"
    assert page.evaluate(f"{wide}.filter((each) => each.tabIndex < 0).map((each) => each.innerText)") == []
    smallest = "Math.min(...[...document.querySelectorAll('td.quote')].map((each) => each.clientWidth || 999))"
    assert page.evaluate(smallest) >= 120
    assert complaints == []
    assert fetched == [address]
    page.close()
