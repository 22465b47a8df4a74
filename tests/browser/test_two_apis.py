"""The page of an HTTP API that shows the lane of another API, too, in a real browser.

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

API = (sys.executable, "-m", "tests.support.dashboard_stack")
ROWS = ".list[data-mode={mode}] li"


@pytest.fixture
def two_apis() -> Iterator[tuple[str, ExitStack, Any]]:
    """The URL of an API that shows another one, the stack to close to take that one away, and a function that starts it again."""
    port = servers.free_port()
    with ExitStack() as stack, ExitStack() as other:
        here = (*API, "choreography", "{port}", f"orchestrator=http://127.0.0.1:{port}")
        url = stack.enter_context(serving(servers.free_port(), here))

        def start() -> None:
            other.enter_context(serving(port, (*API, "orchestrator", "{port}")))

        start()
        yield url, other, start


def test_one_click_places_the_order_at_both_apis(browser: Any, two_apis: Any) -> None:
    url, _, _ = two_apis
    with opened(browser, url, reduced_motion="reduce") as page:
        expect(page.locator("#connection")).to_have_text("✓ Connected")
        fail(page, "undeliverable address")
        for mode in MODES:
            expect(lane(page, mode).locator("h3")).to_have_text("✕ Rejected: undeliverable")
        expect(page.locator(".compared")).to_contain_text("undid the same steps in the same order")
        expect(page.get_by_role("button", name="Kill delivery in choreography")).to_have_count(0)
        page.get_by_role("link", name="Messages", exact=True).click()
        for mode in MODES:
            expect(lane(page, mode)).to_contain_text("DeliveryRejected")
        assert page.evaluate("location.hash").endswith("/messages")
        page.reload()
        for mode in MODES:
            expect(lane(page, mode)).to_contain_text("DeliveryRejected")


def test_lane_works_while_the_other_api_is_away_and_recovers(browser: Any, two_apis: Any) -> None:
    url, other, start = two_apis
    with opened(browser, url, reduced_motion="reduce") as page:
        fail(page, "payment declined")
        expect(page.locator(ROWS.format(mode="orchestrator"))).to_have_count(1)
        other.close()
        expect(page.locator("#connection")).to_have_text("! Connection to orchestrator lost, trying again…")
        fail(page, "out of stock")
        expect(page.locator("#said")).to_contain_text("orchestrator did not accept 1 of 1")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: out of stock")
        expect(page.locator(ROWS.format(mode="choreography"))).to_have_count(2)
        start()  # in memory, so its orders are gone
        expect(page.locator("#connection")).to_have_text("✓ Connected")
        expect(page.locator(ROWS.format(mode="orchestrator"))).to_have_count(0)
        expect(page.locator(ROWS.format(mode="choreography"))).to_have_count(2)
        fail(page, "nothing fails")
        for mode in MODES:
            expect(lane(page, mode).locator("h3")).to_have_text("✓ Completed")


def test_withdrawal_works_in_one_lane_while_the_other_api_is_away(browser: Any, two_apis: Any) -> None:
    url, other, _ = two_apis
    with opened(browser, url, reduced_motion="reduce") as page:
        fail(page, "inventory's handler fails at every attempt")  # so it stays open until its deadline
        expect(page.locator(ROWS.format(mode="orchestrator"))).to_have_count(1)
        other.close()
        page.get_by_role("button", name="Withdraw the order").click()
        expect(page.locator("#said")).to_contain_text("the HTTP API of orchestrator does not respond")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: withdrawn")


def test_withdrawal_reaches_a_lane_that_has_not_shown_the_order(browser: Any, two_apis: Any) -> None:
    url, _, _ = two_apis
    silent = {"**/watch/beside/events": lambda route: route.abort()}
    with opened(browser, url, routes=silent, reduced_motion="reduce") as page:
        fail(page, "inventory's handler fails at every attempt")
        expect(page.locator(ROWS.format(mode="choreography"))).to_have_count(1)
        order_id = page.evaluate("location.hash").split("/")[2]
        page.get_by_role("button", name="Withdraw the order").click()
        expect(page.locator("#said")).to_have_text("Withdrawal requested. It is refused if the order has passed its pivot.")
        there = f"{url}/watch/orders/orchestrator/{order_id}"
        servers.wait_until(
            lambda: page.request.get(there).json().get("reason") == "withdrawn", "the order is withdrawn in the other lane"
        )


#: Records every text of the connection status, from the start.
RECORD_STATUS = """window.statuses = [];
new MutationObserver(() => statuses.push(document.getElementById("connection")?.textContent))
  .observe(document, { childList: true, subtree: true, characterData: true });"""


def test_loading_page_does_not_report_a_lost_connection(browser: Any, two_apis: Any) -> None:
    url, _, _ = two_apis
    with opened(browser, url, reduced_motion="reduce") as page:
        page.context.add_init_script(RECORD_STATUS)
        page.reload()
        expect(page.locator("#connection")).to_have_text("✓ Connected")
        assert set(page.evaluate("statuses")) <= {None, "Connecting…", "✓ Connected"}


#: Simulates that the window is shown or hidden.
SHOWN = """(shown) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => !shown });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_hidden_windows_leave_their_connections_to_the_visible_one(browser: Any, two_apis: Any) -> None:
    url, _, _ = two_apis
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


def test_orders_of_a_removed_lane_are_removed(browser: Any, two_apis: Any) -> None:
    url, _, _ = two_apis
    with opened(browser, url, reduced_motion="reduce") as page:
        order = {"lines": [{"sku": "book", "quantity": 2}], "modes": ["orchestrator"]}
        page.evaluate(CALL, ["feed.js", "request", "/watch/orders", order])
        expect(page.locator("#story h2")).to_have_text("book x2: nothing injected")
        described = page.request.get(f"{url}/watch/lanes").json()
        page.route("**/watch/lanes", lambda route: route.fulfill(json={**described, "lanes": described["lanes"][1:]}))
        page.evaluate(SHOWN, False)
        page.evaluate(SHOWN, True)
        expect(page.locator(".list")).to_have_count(1)
        expect(page.locator("#story h2")).to_have_text("Nothing has been ordered yet. Click a failure above.")
