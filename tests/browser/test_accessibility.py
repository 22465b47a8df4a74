"""Accessibility: contrast, narrow screens, both themes, keyboard use, reduced motion, many orders."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import MODES, expect, fail, lane, opened, view

pytestmark = pytest.mark.real

STATIC = Path(__file__).parents[2] / "dashboard" / "static"
VIEWS = ("Path", "Graph", "Timeline", "Messages")
#: Colours of text, and of backgrounds.
TEXT_COLOURS = ("text", "muted", "command", "event", "rollback", "wait", "good", "accent")
BACKGROUNDS = ("ground", "panel", "raised")

#: Number of texts of a drawing that extend beyond it.
TEXT_OUTSIDE = """svg => [...svg.querySelectorAll('text')].map(text => text.getBBox())
    .filter(box => box.x < 0 || box.x + box.width > svg.clientWidth).length"""


def palette(theme: int) -> dict[str, str]:
    """The variables of style.css in the light (0) or dark (1) theme."""
    found = re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", (STATIC / "style.css").read_text())
    return {name: both[theme] for name, *both in found}


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_matches_known_values() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_text_colour_has_contrast_on_every_background(theme: int) -> None:
    colour = palette(theme)
    pairs = [
        *product(TEXT_COLOURS, BACKGROUNDS),
        ("on-accent", "accent"),
        ("rollback", "root"),
        ("text", "root"),
        ("event", "root"),
        ("command", "root"),
    ]
    weak = {pair: ratio for pair in pairs if (ratio := round(contrast(colour[pair[0]], colour[pair[1]]), 2)) < 4.5}
    assert weak == {}


def test_colours_are_defined_only_as_variables() -> None:
    rules = (STATIC / "style.css").read_text().partition("--gap")[2]
    assert re.findall(r"#[0-9a-f]{3,8}\b(?=[;, )])|\brgb", rules) == []


def test_modules_set_no_markup_and_name_no_other_origin() -> None:
    for module in STATIC.glob("*.js"):
        text = module.read_text()
        assert text.startswith("// "), f"{module.name} does not begin with a comment on its purpose"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), module.name
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == [], module.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_can_be_overridden(browser: Any, url: str, scheme: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, url, color_scheme=scheme) as page:
        system = page.evaluate(ground)
        page.get_by_role("button", name="Theme").click()
        light = page.evaluate(ground)
        page.get_by_role("button", name="Theme").click()
        assert page.evaluate(ground) != light
        assert system == (light if scheme == "light" else page.evaluate(ground))
        page.reload()
        expect(page.get_by_role("button", name="Theme")).to_have_text("Theme: dark")


def test_screen_of_320_px_needs_no_horizontal_scrolling(browser: Any, url: str) -> None:
    with opened(browser, url, reduced_motion="reduce") as page:
        page.set_viewport_size({"width": 320, "height": 640})
        fail(page, "undeliverable address")
        expect(lane(page, "orchestrator").locator("h3")).to_contain_text("Rejected")
        for name in VIEWS:
            view(page, name)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
            assert lane(page, "orchestrator").locator(".view").evaluate("view => view.scrollWidth - view.clientWidth") <= 0
        view(page, "Graph")
        for mode in MODES:
            expect(lane(page, mode).locator(".node").first).to_be_visible()
            assert lane(page, mode).locator("svg").evaluate(TEXT_OUTSIDE) == 0


def test_keyboard_alone_places_an_order_and_opens_every_view(page: Any) -> None:
    def tab_to(text: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").strip() == text:
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        pytest.fail(f"Tab did not reach {text!r}")

    tab_to("payment declined")
    page.keyboard.press("Enter")
    expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: payment declined")
    for name in VIEWS[1:]:
        tab_to(name)
        page.keyboard.press("Enter")
        expect(page.locator(".tabs [aria-current]")).to_have_text(name)


def test_skip_link_leads_past_the_form_and_keeps_the_order(page: Any) -> None:
    fail(page, "out of stock")
    expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: out of stock")
    address = page.url
    page.get_by_role("link", name="Skip to the order").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#story")).to_be_focused()
    assert page.url == address


def test_live_updates_keep_the_focus(page: Any) -> None:
    fail(page, "payment pending")
    link = page.locator(".list[data-mode=orchestrator] a[aria-current]").filter(has_text="payment:pending")
    expect(link).to_be_visible()
    link.focus()
    expect(lane(page, "orchestrator").locator("h3")).to_have_text("✓ Completed")
    expect(link).to_be_focused()


def test_reduced_motion_is_respected(page: Any) -> None:
    fail(page, "undeliverable address")
    expect(lane(page, "orchestrator").locator(".arrow")).to_have_count(14)
    page.get_by_role("button", name="Play again").click()
    expect(lane(page, "orchestrator").locator(".arrow.fresh")).to_have_count(1)
    assert page.evaluate("document.getAnimations().length") == 0


def test_500_open_orders_stay_smooth_and_draw_few_rows(browser: Any, url: str) -> None:
    with opened(browser, f"{url}/?fail=payment:pending&count=500", reduced_motion="reduce") as page:
        longest = """() => { window.worst = 0; let last = performance.now();
            const look = now => { window.worst = Math.max(window.worst, now - last); last = now; requestAnimationFrame(look); };
            requestAnimationFrame(look); }"""
        page.evaluate(longest)
        page.get_by_role("button", name="Place it").click()
        expect(page.locator(".list[data-mode=choreography] h2")).to_have_text(re.compile(r"[5-9]\d\d orders"), timeout=30_000)
        for mode in MODES:
            assert page.locator(f".list[data-mode={mode}] li").count() == 50
        assert page.evaluate("window.worst") < 250
        assert page.evaluate("document.querySelectorAll('*').length") < 3000
