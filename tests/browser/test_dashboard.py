"""The page in a real browser: place orders, inject failures, and follow them in every view.

No test sleeps: `expect` waits for what the user would see.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.support import servers
from tests.support.browser import CALL, MODES, expect, fail, lane, opened, serving, view

pytestmark = pytest.mark.real

LAMPS = [{"sku": "lamp", "quantity": 3}]
ANOTHER_ORDER = {"lines": LAMPS, "customer": "Bo", "failures": [], "modes": None, "count": 1, "seed": 1}


@contextmanager
def killed_delivery(page: Any) -> Iterator[None]:
    """Delivery is down in both modes while the block runs, so that orders stay open."""
    for mode in MODES:
        page.get_by_role("button", name=f"Kill delivery in {mode}").click()
        expect(page.get_by_role("button", name=f"Revive delivery in {mode}")).to_be_visible()
    try:
        yield
    finally:
        for mode in MODES:
            page.get_by_role("button", name=f"Revive delivery in {mode}").click()
            expect(page.get_by_role("button", name=f"Kill delivery in {mode}")).to_be_visible()


def test_one_click_shows_what_each_style_did_about_a_failure(page: Any) -> None:
    fail(page, "undeliverable address")
    for mode in MODES:
        expect(lane(page, mode).locator("h3")).to_have_text("✕ Rejected: undeliverable")
        expect(lane(page, mode)).to_contain_text("VoidPayment, then ReleaseStock")
    expect(lane(page, "orchestrator")).to_contain_text("The coordinator received DeliveryRejected and sent VoidPayment")
    expect(lane(page, "choreography")).to_contain_text("payment received DeliveryRejected and did VoidPayment")
    expect(page.locator(".compared")).to_contain_text("undid the same steps in the same order")
    expect(page.locator(".compared")).to_contain_text("Orchestrator: 14 messages")
    expect(page.locator(".compared")).to_contain_text("Choreography: 8 messages")


def ended_in(mode: str, state: str = "REJECTED", reason: str | None = "withdrawn", **undone: bool) -> dict[str, Any]:
    """The part of an order's history that the comparison reads. `undone`: service -> whether it held something."""
    return {
        "mode": mode,
        "state": state,
        "reason": reason,
        "took_s": 1.0,
        "entries": [{"sender": service} for service in undone],
        "undone": [
            {"command": f"Undo {service}", "entry": number, "had_effect": held}
            for number, (service, held) in enumerate(undone.items(), start=1)
        ],
    }


def comparison(page: Any, one: dict[str, Any], other: dict[str, Any]) -> str:
    text: str = page.evaluate(CALL, ["words.js", "comparison", one, other])
    return text.partition(" Orchestrator: ")[0]


def test_different_ends_are_both_named(page: Any) -> None:
    one = ended_in("orchestrator", "COMPLETED", None)
    other = ended_in("choreography", reason="deadline", inventory=True)
    assert comparison(page, one, other) == "Orchestrator completed it, choreography rejected it (deadline)."


def test_service_that_held_nothing_is_named_apart(page: Any) -> None:
    one = ended_in("orchestrator", inventory=True)
    other = ended_in("choreography", delivery=False, payment=False, inventory=True)
    assert comparison(page, one, other) == (
        "Both rejected it and undid the same steps in the same order. "
        "Choreography also asked delivery and payment, which held nothing."
    )
    other = ended_in("choreography", payment=True, inventory=True)
    assert comparison(page, one, other) == "Both rejected it but undid differently."


def test_heading_of_an_order_without_a_failure(page: Any) -> None:
    fail(page, "nothing fails")
    expect(page.locator("#story h2")).to_have_text("book x2: nothing injected")


def test_path_shows_commands_events_and_rollbacks_by_shape(page: Any) -> None:
    fail(page, "payment declined")
    arrows = lane(page, "orchestrator").locator(".arrow")
    expect(arrows).to_have_count(10)
    declined = arrows.filter(has_text="PaymentDeclined")
    expect(declined).to_contain_text("✕ ↩")
    expect(declined.locator(".tail")).to_have_count(1)
    expect(declined.locator(".head.hollow")).to_have_count(1)
    expect(arrows.filter(has_text="ReserveStock").locator(".head.solid")).to_have_count(1)
    expect(arrows.filter(has_text="ReserveStock").locator(".tail")).to_have_count(0)


def test_graph_shows_progress_and_compensation(page: Any) -> None:
    fail(page, "undeliverable address")
    view(page, "Graph")
    for node, state in {
        "ReserveStock": "compensated",
        "ScheduleDelivery": "failed",
        "VoidPayment": "done",
        "CompleteOrder": "idle",
    }.items():
        expect(lane(page, "orchestrator").locator(f'[data-node="{node}"]')).to_have_class(re.compile(rf"\b{state}\b"))
    expect(lane(page, "orchestrator").locator('[data-node="VoidPayment"]')).to_contain_text("↩ undone")
    reactions = {
        "OrderPlaced/ReserveStock": "compensated",
        "DeliveryRejected/VoidPayment": "done",
        "OrderWithdrawn/CancelDelivery": "idle",
    }
    for node, state in reactions.items():
        expect(lane(page, "choreography").locator(f'[data-node="{node}"]')).to_have_class(re.compile(rf"\b{state}\b"))


def test_timeline_hatches_waits_and_separates_compensation(page: Any) -> None:
    fail(page, "payment pending")
    view(page, "Timeline")
    for mode in MODES:
        expect(lane(page, mode).locator(".bars li.wait").first).to_be_visible()
        expect(lane(page, mode).locator("h3")).to_have_text("✓ Completed")
        expect(lane(page, mode)).to_contain_text("s for the payment gateway")
    hatched = lane(page, "orchestrator").locator(".bars li.wait .bar")
    assert "repeating-linear-gradient" in hatched.evaluate("bar => getComputedStyle(bar).backgroundImage")
    assert hatched.evaluate("bar => bar.offsetWidth / bar.parentNode.offsetWidth") > 0.9
    fail(page, "payment declined")
    expect(lane(page, "choreography").locator("h4")).to_have_text(["Forward", "↩ Compensation"])


def test_both_timelines_have_one_scale(page: Any) -> None:
    fail(page, "payment declined")
    view(page, "Timeline")
    for mode in MODES:
        expect(lane(page, mode).locator("h3")).to_contain_text("✕ Rejected")
    scales = [lane(page, mode).locator(".scale span").last for mode in MODES]
    expect(scales[0]).to_have_text(scales[1].text_content())
    ends = "bars => Math.max(...bars.map(bar => (bar.offsetLeft + bar.offsetWidth) / bar.parentNode.offsetWidth))"
    took = []
    for mode in MODES:
        number, unit = lane(page, mode).locator(".verdict .facts div", has_text="Time").locator("dd").text_content().split()
        took.append(float(number) / (1000 if unit == "ms" else 1))
    reached = [lane(page, mode).locator(".track .bar").evaluate_all(ends) for mode in MODES]
    assert max(reached) == pytest.approx(1, abs=0.03)
    assert min(reached) / max(reached) == pytest.approx(min(took) / max(took), abs=0.05)


def test_messages_show_headers_and_body_and_the_root_cause_first(page: Any) -> None:
    fail(page, "payment declined")
    view(page, "Messages")
    for mode in MODES:
        first = lane(page, mode).locator("details.message").first
        expect(first).to_contain_text("↩ PaymentDeclined")
        expect(first.locator("pre")).to_contain_text('"reason": "payment_declined"')
        expect(first.locator("dl").nth(1)).to_contain_text("causation_id")


def test_awaited_message_does_not_stay_open(page: Any) -> None:
    box = lane(page, "orchestrator")
    with killed_delivery(page):
        fail(page, "nothing fails")
        view(page, "Messages")
        expect(box.locator(".error-first")).to_have_text("‖ Waiting for an answer to this message")
        expect(box.locator(".error-first + details")).to_contain_text("ScheduleDelivery")
        box.locator(".all summary").nth(1).click()
    expect(box.locator("h3")).to_have_text("✓ Completed")
    expect(box.locator(".error-first")).to_have_count(0)
    expect(box.locator("details[open]")).to_have_count(1)
    expect(box.locator(".all details").nth(1)).to_have_attribute("open", "")


def test_open_order_has_a_now_and_ended_order_a_why(page: Any) -> None:
    why = lane(page, "orchestrator").locator(".why strong")
    with killed_delivery(page):
        fail(page, "nothing fails")
        expect(why).to_have_text("Now: ")
        expect(lane(page, "orchestrator").locator(".waiting")).to_contain_text("‖ Waiting: delivery for ScheduleDelivery, ")
    expect(lane(page, "orchestrator").locator("h3")).to_have_text("✓ Completed")
    expect(why).to_have_text("Why: ")


def test_waits_of_less_than_a_second_are_not_shown(page: Any) -> None:
    order = {"waiting": [{"worker": "payment", "deed": "VoidPayment", "since": 10.0}]}
    assert page.evaluate(CALL, ["words.js", "overdueWorkers", order, 10.9]) == ""
    assert page.evaluate(CALL, ["words.js", "overdueWorkers", order, 12.0]) == "payment for VoidPayment, 2.0 s"


def test_summary_of_a_single_command(page: Any) -> None:
    sent = {"sender": "coordinator", "command": True, "rollback": False}
    summary = page.evaluate(CALL, ["words.js", "styleSummary", {"mode": "orchestrator", "entries": [sent]}])
    assert summary == "The coordinator sent 1 command."


def test_order_counts_once_at_a_worker_that_it_waits_for_twice(page: Any) -> None:
    counted = """waiting => import("/page/feed.js").then(({ emptyState, ordersOf, openOrdersByWorker }) => {
        const state = emptyState();
        ordersOf(state, "choreography").set("1", { waiting });
        return Object.fromEntries(openOrdersByWorker(state, "choreography"));
    })"""
    waiting = [{"worker": "order"}, {"worker": "order"}, {"worker": "payment"}]
    assert page.evaluate(counted, waiting) == {"order": 1, "payment": 1}


def entry(number: int, name: str, sender: str, cause: int | None = None, **more: Any) -> dict[str, Any]:
    """An entry of an order's history: by default an event on which no worker acts."""
    plain = {"command": False, "rollback": False, "takers": [], "attempts": 1, "dead": None, "deed": None}
    return {"number": number, "name": name, "sender": sender, "cause": cause} | plain | more


def test_repeated_messages_are_summarised_and_drawn_once(page: Any) -> None:
    withdrawn = [entry(number, "OrderWithdrawn", "order", rollback=True) for number in (1, 2, 3)]
    refused = [entry(number, "PaymentVoided", "payment", number - 3, rollback=True, deed="VoidPayment") for number in (4, 5)]
    order = {"mode": "choreography", "state": "PENDING", "root": 1, "entries": [*withdrawn, *refused]}
    summary = page.evaluate(CALL, ["words.js", "styleSummary", order])
    assert summary == "No coordinator was involved: payment received OrderWithdrawn and did VoidPayment."
    drawn = """order => import("/page/path.js").then(({ pathOf }) => {
        const [drawing, list] = pathOf({ columns: ["order", "payment"] }, order, 600, new Map(), 9);
        return [...drawing.querySelectorAll(".arrow"), ...list.children].map(row => row.textContent);
    })"""
    assert page.evaluate(drawn, order) == [
        "‖ ↩ OrderWithdrawn x3",
        "↩ PaymentVoided x2",
        "OrderWithdrawn, 3 times: rollback event from order, no worker acts on it",
        "PaymentVoided, 2 times: rollback event from payment, no worker acts on it",
    ]


def test_each_view_has_an_address_and_the_back_button_works(page: Any, browser: Any) -> None:
    fail(page, "out of stock")
    for name in ("graph", "timeline", "messages"):
        view(page, name.title())
        expect(page).to_have_url(re.compile(rf"#/orchestrator/[0-9a-f-]+/{name}$"))
    with opened(browser, page.url, reduced_motion="reduce") as other:
        expect(other.locator(".tabs [aria-current]")).to_have_text("Messages")
        expect(lane(other, "choreography").locator("h3")).to_have_text("✕ Rejected: out of stock")
    page.go_back()
    expect(page.locator(".tabs [aria-current]")).to_have_text("Timeline")
    page.go_back()
    expect(lane(page, "choreography").locator("svg.graph")).to_be_visible()


def test_permalink_fills_the_form(browser: Any, url: str) -> None:
    with opened(browser, f"{url}/?seed=7&fail=payment:declined&count=3", reduced_motion="reduce") as page:
        expect(page.get_by_label("Seed")).to_have_value("7")
        expect(page.get_by_label("How many orders")).to_have_value("3")
        expect(page.get_by_role("button", name="payment declined")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="Place it").click()
        expect(page.locator("#said")).to_have_text("3 orders placed in each lane. The first of them is below.")
        expect(page).to_have_url(re.compile(r"/\?seed=7&fail=payment:declined&count=3#/"))
        expect(page.get_by_role("link", name="Link to this seed")).to_have_attribute(
            "href", "/?seed=7&fail=payment:declined&count=3"
        )
        expect(page.locator("#lists .orders").first.locator("li").filter(has_text="payment:declined").nth(2)).to_be_visible()


def test_markup_in_a_name_is_shown_as_text(page: Any) -> None:
    page.get_by_text("Order details").click()
    page.get_by_label("Customer").fill("<script>alert(1)</script><b>Bo</b>")
    fail(page, "nothing fails")
    view(page, "Messages")
    placed = lane(page, "orchestrator").locator("details.message").first
    placed.locator("summary").click()
    expect(placed.locator("pre")).to_contain_text("<script>alert(1)</script><b>Bo</b>")
    assert page.locator("main script, main b").count() == 0


def test_unknown_failure_is_reported_and_not_used(browser: Any, url: str) -> None:
    with opened(browser, f"{url}/?fail=banana:split", reduced_motion="reduce") as page:
        expect(page.locator("#said")).to_have_text("There is no such failure: banana:split")
        expect(page.get_by_role("button", name="nothing fails")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="Place it").click()
        expect(page.locator("#said")).to_contain_text("Placed.")


def test_invalid_order_is_refused_with_a_reason(browser: Any, url: str) -> None:
    with opened(browser, f"{url}/?customer={'x' * 300}", reduced_motion="reduce") as page:
        page.get_by_role("button", name="Place it").click()
        expect(page.locator("#said")).to_contain_text("Not placed.")
        expect(page.locator("#said")).to_contain_text("customer")


def test_malformed_hash_selects_no_order(browser: Any, url: str) -> None:
    with opened(browser, f"{url}/#/orchestrator/%E0%A4%A", reduced_motion="reduce") as page:
        fail(page, "out of stock")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: out of stock")


def test_killed_worker_is_an_alarm_and_its_order_continues_on_revival(page: Any) -> None:
    for mode in MODES:
        page.get_by_role("button", name=f"Kill delivery in {mode}").click()
        expect(page.locator(f'.status[data-mode="{mode}"] li.alarm')).to_contain_text("! delivery 0 · no consumer")
    fail(page, "nothing fails")
    view(page, "Graph")
    for mode in MODES:
        expect(lane(page, mode).locator(".node.waiting")).to_contain_text("ScheduleDelivery")
        expect(page.locator(f'.status[data-mode="{mode}"] li.alarm')).to_contain_text("! delivery 1 · no consumer")
    for mode in MODES:
        page.get_by_role("button", name=f"Revive delivery in {mode}").click()
        expect(lane(page, mode).locator("h3")).to_have_text("✓ Completed")
        expect(page.locator(f'.status[data-mode="{mode}"] li.alarm')).to_have_count(0)


def test_server_with_one_mode_shows_one_lane(browser: Any, url: str) -> None:
    def only_choreography(route: Any) -> None:
        described = route.fetch().json()
        route.fulfill(json=described | {"lanes": [one for one in described["lanes"] if one["mode"] == "choreography"]})

    with opened(browser, url, routes={"**/watch/lanes": only_choreography}, reduced_motion="reduce") as page:
        fail(page, "payment declined")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: payment declined")
        expect(page.locator("#lanes .lane")).to_have_count(1)
        expect(page.locator(".compared")).to_contain_text("the payment gateway declined the payment")


def test_open_order_can_be_withdrawn(page: Any) -> None:
    fail(page, "inventory's handler fails at every attempt")  # so it stays open until its deadline
    page.get_by_role("button", name="Withdraw the order").click()
    for mode in MODES:
        expect(lane(page, mode).locator("h3")).to_have_text("✕ Rejected: withdrawn")
    expect(page.get_by_role("button", name="Withdraw the order")).to_be_hidden()


def test_graphs_show_a_withdrawal_and_what_it_overtook(page: Any) -> None:
    fail(page, "the customer withdraws")
    view(page, "Graph")
    expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: withdrawn")
    expect(page.locator("#story h2")).to_have_text("book x2: the customer withdraws")
    chain = lane(page, "choreography").locator(".node.back.done .name")
    expect(chain).to_have_text(["CancelDelivery", "VoidPayment", "ReleaseStock", "RejectOrder"])
    expect(lane(page, "choreography").locator(".node.running, .node.waiting")).to_have_count(0)
    expect(lane(page, "orchestrator")).to_contain_text("The coordinator received OrderWithdrawn and sent")


def test_failed_compensation_needs_attention_and_names_its_worker(page: Any) -> None:
    fail(page, "the payment cannot be voided")
    for mode in MODES:
        expect(lane(page, mode).locator("h3")).to_contain_text("! Needs attention: VoidPayment")
        expect(page.locator(f".list[data-mode={mode}] li").first).to_contain_text("! Needs attention")
    expect(lane(page, "choreography")).to_contain_text("payment received DeliveryRejected and could not do VoidPayment")
    view(page, "Graph")
    expect(lane(page, "orchestrator").locator('[data-node="VoidPayment"]')).to_have_class(re.compile("failed"))
    expect(lane(page, "choreography").locator('[data-node="DeliveryRejected/VoidPayment"]')).to_have_class(re.compile("failed"))


def test_escalated_order_shows_the_operator_command_and_the_failure(page: Any) -> None:
    fail(page, "the payment cannot be voided")
    expect(page).to_have_url(re.compile("#/"))
    order = page.url.rsplit("/", 1)[-1]
    for mode in MODES:
        expect(lane(page, mode).locator("code")).to_have_text(f"saga order redrive {order} -m {mode}")
        escalation = lane(page, mode).locator(".arrow.help").filter(has_text="PaymentStepFailed")
        expect(escalation).to_have_text("✕ PaymentStepFailed")
        refusal = lane(page, mode).locator(".arrow.rollback").first
        expect(escalation).to_have_css("color", refusal.evaluate("arrow => getComputedStyle(arrow).color"))
    view(page, "Messages")
    escalation = lane(page, "choreography").locator(".all strong.help")
    expect(escalation).to_have_text("! PaymentStepFailed")


def test_new_order_is_shown_message_by_message(browser: Any, url: str) -> None:
    with opened(browser, url, reduced_motion="no-preference") as page:
        fail(page, "undeliverable address")
        counts = page.evaluate(
            """() => new Promise(done => {
                 const seen = new Set(), box = document.querySelector('.lane[data-mode=orchestrator] .view');
                 const look = () => { seen.add(box.querySelectorAll('.arrow').length); if (seen.has(14)) done([...seen]); };
                 new MutationObserver(look).observe(box, {childList: true});
               })"""
        )
        assert {5, 9, 14} <= set(counts)
        slider = page.get_by_role("slider", name="Messages shown")
        slider.focus()
        slider.press("Home")
        expect(lane(page, "choreography").locator(".arrow")).to_have_count(0)
        slider.press("ArrowRight")
        slider.press("ArrowRight")
        expect(lane(page, "choreography").locator(".arrow")).to_have_count(2)
        expect(page.locator(".compared.ahead, .verdict.ahead")).to_have_count(3)
        slider.press("End")
        expect(page.locator(".ahead")).to_have_count(0)


def test_playing_ends_with_the_last_message_of_open_orders_too(browser: Any, url: str) -> None:
    with opened(browser, url, reduced_motion="no-preference") as page:
        replay, shown = page.locator(".player button").first, page.locator(".player output")
        with killed_delivery(page):
            fail(page, "nothing fails")
            expect(replay).to_have_text("Playing…")
            expect(shown).to_have_text(re.compile(r"^(\d+) of \1, live$"))
            expect(replay).to_have_text("Play again")
        expect(lane(page, "orchestrator").locator("h3")).to_have_text("✓ Completed")
        expect(shown).to_have_text(re.compile(r"^(\d+) of \1$"))
        fail(page, "the payment cannot be voided")
        expect(lane(page, "orchestrator").locator("h3")).to_contain_text("! Needs attention")
        expect(shown).to_have_text(re.compile(r"^(\d+) of \1, live$"))
        expect(replay).to_have_text("Play again")


def test_only_the_slowed_down_demo_says_so(browser: Any, url: str) -> None:
    def of_other_processes(route: Any) -> None:
        described = route.fetch().json()
        route.fulfill(json=described | {"lanes": [one | {"can_kill": False} for one in described["lanes"]]})

    for routes, is_slowed in (({}, True), ({"**/watch/lanes": of_other_processes}, False)):
        with opened(browser, url, routes=routes, reduced_motion="reduce") as page:
            fail(page, "nothing fails")
            expect(page.locator("#story h2")).to_have_text("book x2: nothing injected")
            expect(page.locator(".compared")).to_contain_text("Both completed it")
            expect(page.get_by_text("Slowed down so that it can be seen")).to_be_visible(visible=is_slowed)


def test_page_recovers_after_the_server_restarts(browser: Any) -> None:
    port = servers.free_port()
    orders = ".list[data-mode=choreography] li"
    with ExitStack() as server, ExitStack() as stack:
        address = server.enter_context(serving(port))
        page = stack.enter_context(opened(browser, address, reduced_motion="reduce"))
        fail(page, "payment declined")
        expect(page.locator(orders)).to_have_count(1)
        server.close()
        expect(page.locator("#connection")).to_contain_text("Connection lost")
        stack.enter_context(serving(port))
        page.request.post(f"{address}/watch/orders", data=ANOTHER_ORDER, headers={"X-Saga": "page"})
        expect(page.locator("#connection")).to_have_text("✓ Connected")
        expect(page.locator(orders)).to_contain_text(["lamp x3"])
        expect(page.locator(orders)).to_have_count(1)
        fail(page, "undeliverable address")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: undeliverable")
