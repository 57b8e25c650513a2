from pathlib import Path

import pytest
from playwright.sync_api import Browser

from medllm_ops.report.build import build_report

# Five fates, train and validation of three stages, four models and what joins them.
TRACES = 5 + 3 * 2 + 5


@pytest.mark.parametrize(("width", "theme"), [(1200, "light"), (390, "dark")])
def test_a_browser_draws_every_chart_and_fetches_nothing(
    browser: Browser, run_dir: Path, width: int, theme: str
) -> None:
    build_report(run_dir)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    fetched: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    address = (run_dir / "report.html").as_uri()
    page.goto(address)
    # No wait_for_function: it evaluates text as code, which the page's own policy forbids.
    drawn = page.locator("[data-figure] .cartesianlayer .trace")
    drawn.nth(TRACES - 1).wait_for(state="attached")
    assert drawn.count() == TRACES
    assert fetched == [address]
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(246, 247, 249)" if theme == "light" else "rgb(18, 22, 28)")
    page.close()
