"""The page at a door beside another door, in a real browser: two lanes from two servers.

One of the two servers goes away and comes back.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support import servers
from tests.support.browser import CALL, MODES, expect, fail, lane, opened, serving

pytestmark = pytest.mark.real

DOOR = (sys.executable, "-m", "tests.support.dashboard_stack")
ROWS = ".list[data-mode={mode}] li"


@pytest.fixture
def beside() -> Iterator[tuple[str, ExitStack, Any]]:
    """The URL of a door with another beside it, what to close for that one to be away, and what starts it again."""
    port = servers.free_port()
    with ExitStack() as stack, ExitStack() as other:
        here = (*DOOR, "choreography", "{port}", f"orchestrator=http://127.0.0.1:{port}")
        url = stack.enter_context(serving(servers.free_port(), here))

        def start() -> None:
            other.enter_context(serving(port, (*DOOR, "orchestrator", "{port}")))

        start()
        yield url, other, start


def test_one_click_places_the_order_at_both_doors_and_shows_what_each_style_did(browser: Any, beside: Any) -> None:
    url, _, _ = beside
    with opened(browser, url, reduced_motion="reduce") as page:
        expect(page.locator("#connection")).to_have_text("✓ Connected")
        fail(page, "nobody delivers there")
        for mode in MODES:
            expect(lane(page, mode).locator("h3")).to_have_text("✕ Rejected: undeliverable")
        expect(page.locator(".compared")).to_contain_text("undid the same in the same order")
        expect(page.get_by_role("button", name="Kill delivery in choreography")).to_have_count(0)
        page.get_by_role("link", name="Messages", exact=True).click()
        for mode in MODES:
            expect(lane(page, mode)).to_contain_text("DeliveryRejected")
        assert page.evaluate("location.hash").endswith("/messages")
        page.reload()
        for mode in MODES:
            expect(lane(page, mode)).to_contain_text("DeliveryRejected")


def test_a_door_that_goes_away_leaves_the_other_lane_at_work_and_comes_back_with_what_it_knows(browser: Any, beside: Any) -> None:
    url, other, start = beside
    with opened(browser, url, reduced_motion="reduce") as page:
        fail(page, "payment declined")
        expect(page.locator(ROWS.format(mode="orchestrator"))).to_have_count(1)
        other.close()
        expect(page.locator("#connection")).to_have_text("! Connection to orchestrator lost, trying again…")
        fail(page, "out of stock")
        expect(page.locator("#said")).to_contain_text("orchestrator did not take 1 of 1")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: out of stock")
        expect(page.locator(ROWS.format(mode="choreography"))).to_have_count(2)
        start()  # in memory, so it comes back with nothing
        expect(page.locator("#connection")).to_have_text("✓ Connected")
        expect(page.locator(ROWS.format(mode="orchestrator"))).to_have_count(0)
        expect(page.locator(ROWS.format(mode="choreography"))).to_have_count(2)
        fail(page, "nothing fails")
        for mode in MODES:
            expect(lane(page, mode).locator("h3")).to_have_text("✓ Completed")


def test_an_order_is_taken_back_in_the_lane_that_answers_while_the_other_door_is_away(browser: Any, beside: Any) -> None:
    url, other, _ = beside
    with opened(browser, url, reduced_motion="reduce") as page:
        fail(page, "inventory's handler fails at every attempt")  # so it stays open until its deadline
        expect(page.locator(ROWS.format(mode="orchestrator"))).to_have_count(1)
        other.close()
        page.get_by_role("button", name="Withdraw the order").click()
        expect(page.locator("#said")).to_contain_text("the door of orchestrator does not answer")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: withdrawn")


def test_an_order_is_taken_back_in_a_lane_that_has_not_told_of_it_yet(browser: Any, beside: Any) -> None:
    url, _, _ = beside
    silent = {"**/watch/beside/events": lambda route: route.abort()}
    with opened(browser, url, routes=silent, reduced_motion="reduce") as page:
        fail(page, "inventory's handler fails at every attempt")
        expect(page.locator(ROWS.format(mode="choreography"))).to_have_count(1)
        order_id = page.evaluate("location.hash").split("/")[2]
        page.get_by_role("button", name="Withdraw the order").click()
        expect(page.locator("#said")).to_have_text("Taken back, as far as it still can be.")
        there = f"{url}/watch/orders/orchestrator/{order_id}"
        servers.wait_until(lambda: page.request.get(there).json().get("reason") == "withdrawn", "it is taken back there, too")


#: Keeps what the page says of its connection, from the beginning.
LISTENING = """window.said = [];
new MutationObserver(() => said.push(document.getElementById("connection")?.textContent))
  .observe(document, { childList: true, subtree: true, characterData: true });"""


def test_a_page_that_comes_up_does_not_say_that_a_connection_is_lost(browser: Any, beside: Any) -> None:
    url, _, _ = beside
    with opened(browser, url, reduced_motion="reduce") as page:
        page.context.add_init_script(LISTENING)
        page.reload()
        expect(page.locator("#connection")).to_have_text("✓ Connected")
        assert set(page.evaluate("said")) <= {None, "Connecting…", "✓ Connected"}


#: What a browser says to a window that is shown, or no longer.
SHOWN = """(shown) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => !shown });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_windows_that_nobody_sees_leave_the_connections_to_the_one_that_is_looked_at(browser: Any, beside: Any) -> None:
    url, _, _ = beside
    with opened(browser, url, reduced_motion="reduce") as first:
        windows = [first]
        for number in range(1, 5):
            windows[-1].evaluate(SHOWN, False)
            windows.append(first.context.new_page())
            windows[-1].goto(url)
            fail(windows[-1], "nothing fails")
            for mode in MODES:
                expect(windows[-1].locator(ROWS.format(mode=mode))).to_have_count(number)
        windows[-1].evaluate(SHOWN, False)
        first.evaluate(SHOWN, True)
        for mode in MODES:
            expect(first.locator(ROWS.format(mode=mode))).to_have_count(4)
        expect(first.locator("#connection")).to_have_text("✓ Connected")


def test_the_orders_of_a_lane_that_is_no_longer_there_go_with_it(browser: Any, beside: Any) -> None:
    url, _, _ = beside
    with opened(browser, url, reduced_motion="reduce") as page:
        order = {"lines": [{"sku": "book", "quantity": 2}], "modes": ["orchestrator"]}
        page.evaluate(CALL, ["feed.js", "ask", "/watch/orders", order])
        expect(page.locator("#story h2")).to_have_text("book x2: nothing injected")
        told = page.request.get(f"{url}/watch/lanes").json()
        page.route("**/watch/lanes", lambda route: route.fulfill(json={**told, "lanes": told["lanes"][1:]}))
        page.evaluate(SHOWN, False)
        page.evaluate(SHOWN, True)
        expect(page.locator(".list")).to_have_count(1)
        expect(page.locator("#story h2")).to_have_text("Nothing has been ordered yet. Click a failure above.")
