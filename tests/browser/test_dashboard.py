"""The page in a real browser: place, fail, watch it compensate, in every view.

Nothing sleeps: `expect` waits for what a person would wait for.
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
    """Delivery is down in both modes meanwhile, so that an order stays under way for as long as a test looks at it."""
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
    fail(page, "nobody delivers there")
    for mode in MODES:
        expect(lane(page, mode).locator("h3")).to_have_text("✕ Rejected: undeliverable")
        expect(lane(page, mode)).to_contain_text("VoidPayment, then ReleaseStock")
    expect(lane(page, "orchestrator")).to_contain_text("The coordinator heard DeliveryRejected and commanded VoidPayment")
    expect(lane(page, "choreography")).to_contain_text("payment heard DeliveryRejected and did VoidPayment")
    expect(page.locator(".compared")).to_contain_text("undid the same in the same order")
    expect(page.locator(".compared")).to_contain_text("Orchestrator: 14 messages")
    expect(page.locator(".compared")).to_contain_text("Choreography: 8 messages")


def ended_in(mode: str, state: str = "REJECTED", reason: str | None = "withdrawn", **undone: bool) -> dict[str, Any]:
    """An order as told, with as much as a sentence about it needs. `undone`: service -> whether it held something."""
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


def compared(page: Any, one: dict[str, Any], other: dict[str, Any]) -> str:
    said: str = page.evaluate(CALL, ["words.js", "compared", one, other])
    return said.partition(" Orchestrator: ")[0]


def test_ends_that_differ_are_each_told(page: Any) -> None:
    one = ended_in("orchestrator", "COMPLETED", None)
    other = ended_in("choreography", reason="deadline", inventory=True)
    assert compared(page, one, other) == "Orchestrator completed it, choreography rejected it (deadline)."


def test_a_service_that_held_nothing_undid_nothing_and_is_told_as_asked(page: Any) -> None:
    one = ended_in("orchestrator", inventory=True)
    other = ended_in("choreography", delivery=False, payment=False, inventory=True)
    assert compared(page, one, other) == (
        "Both rejected it and undid the same in the same order. Choreography also asked delivery and payment, which held nothing."
    )
    other = ended_in("choreography", payment=True, inventory=True)
    assert compared(page, one, other) == "Both rejected it but undid differently."


def test_the_heading_of_an_order_without_a_failure_promises_nothing(page: Any) -> None:
    fail(page, "nothing fails")
    expect(page.locator("#story h2")).to_have_text("book x2: nothing injected")


def test_the_path_shows_commands_events_and_rollbacks_by_shape(page: Any) -> None:
    fail(page, "payment declined")
    arrows = lane(page, "orchestrator").locator(".arrow")
    expect(arrows).to_have_count(10)
    declined = arrows.filter(has_text="PaymentDeclined")
    expect(declined).to_contain_text("✕ ↩")
    expect(declined.locator(".tail")).to_have_count(1)
    expect(declined.locator(".head.hollow")).to_have_count(1)
    expect(arrows.filter(has_text="ReserveStock").locator(".head.solid")).to_have_count(1)
    expect(arrows.filter(has_text="ReserveStock").locator(".tail")).to_have_count(0)


def test_the_graph_shows_how_far_it_got_and_what_was_compensated(page: Any) -> None:
    fail(page, "nobody delivers there")
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


def test_the_timeline_hatches_the_wait_and_keeps_compensation_below(page: Any) -> None:
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


def test_both_timelines_are_drawn_to_one_scale(page: Any) -> None:
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


def test_the_messages_show_headers_and_body_and_the_culprit_first(page: Any) -> None:
    fail(page, "payment declined")
    view(page, "Messages")
    for mode in MODES:
        first = lane(page, mode).locator("details.message").first
        expect(first).to_contain_text("↩ PaymentDeclined")
        expect(first.locator("pre")).to_contain_text('"reason": "payment_declined"')
        expect(first.locator("dl").nth(1)).to_contain_text("causation_id")


def test_a_message_that_was_only_waited_for_does_not_stay_open(page: Any) -> None:
    box = lane(page, "orchestrator")
    with killed_delivery(page):
        fail(page, "nothing fails")
        view(page, "Messages")
        expect(box.locator(".error-first")).to_have_text("‖ Waiting for an answer to this one")
        expect(box.locator(".error-first + details")).to_contain_text("ScheduleDelivery")
        box.locator(".all summary").nth(1).click()
    expect(box.locator("h3")).to_have_text("✓ Completed")
    expect(box.locator(".error-first")).to_have_count(0)
    expect(box.locator("details[open]")).to_have_count(1)
    expect(box.locator(".all details").nth(1)).to_have_attribute("open", "")


def test_an_order_under_way_says_what_is_now_and_only_an_end_has_a_why(page: Any) -> None:
    why = lane(page, "orchestrator").locator(".why strong")
    with killed_delivery(page):
        fail(page, "nothing fails")
        expect(why).to_have_text("Now: ")
        expect(lane(page, "orchestrator").locator(".waiting")).to_contain_text("‖ Waiting: delivery for ScheduleDelivery, ")
    expect(lane(page, "orchestrator").locator("h3")).to_have_text("✓ Completed")
    expect(why).to_have_text("Why: ")


def test_less_than_a_second_is_no_wait_to_speak_of(page: Any) -> None:
    told = {"waiting": [{"worker": "payment", "deed": "VoidPayment", "since": 10.0}]}
    assert page.evaluate(CALL, ["words.js", "waitedFor", told, 10.9]) == ""
    assert page.evaluate(CALL, ["words.js", "waitedFor", told, 12.0]) == "payment for VoidPayment, 2.0 s"


def test_a_single_command_came_after_no_other(page: Any) -> None:
    sent = {"sender": "coordinator", "command": True, "rollback": False}
    said = page.evaluate(CALL, ["words.js", "whatTheStyleDid", {"mode": "orchestrator", "entries": [sent]}])
    assert said == "The coordinator sent 1 command."


def test_an_order_is_counted_once_at_a_worker_however_often_it_waits_there(page: Any) -> None:
    counted = """waiting => import("/page/feed.js").then(({ emptyState, ordersOf, atWork }) => {
        const state = emptyState();
        ordersOf(state, "choreography").set("1", { waiting });
        return Object.fromEntries(atWork(state, "choreography"));
    })"""
    waiting = [{"worker": "order"}, {"worker": "order"}, {"worker": "payment"}]
    assert page.evaluate(counted, waiting) == {"order": 1, "payment": 1}


def entry(number: int, name: str, sender: str, cause: int | None = None, **more: Any) -> dict[str, Any]:
    """A message of an order as told, an event that goes to nobody if `more` does not say otherwise."""
    plain = {"command": False, "rollback": False, "takers": [], "attempts": 1, "dead": None, "deed": None}
    return {"number": number, "name": name, "sender": sender, "cause": cause} | plain | more


def test_what_repeats_itself_is_told_and_drawn_once(page: Any) -> None:
    withdrawn = [entry(number, "OrderWithdrawn", "order", rollback=True) for number in (1, 2, 3)]
    refused = [entry(number, "PaymentVoided", "payment", number - 3, rollback=True, deed="VoidPayment") for number in (4, 5)]
    told = {"mode": "choreography", "state": "PENDING", "root": 1, "entries": [*withdrawn, *refused]}
    said = page.evaluate(CALL, ["words.js", "whatTheStyleDid", told])
    assert said == "Nobody was in charge: payment heard OrderWithdrawn and did VoidPayment."
    drawn = """told => import("/page/path.js").then(({ pathOf }) => {
        const [drawing, spoken] = pathOf({ columns: ["order", "payment"] }, told, 600, new Map(), 9);
        return [...drawing.querySelectorAll(".arrow"), ...spoken.children].map(row => row.textContent);
    })"""
    assert page.evaluate(drawn, told) == [
        "‖ ↩ OrderWithdrawn x3",
        "↩ PaymentVoided x2",
        "OrderWithdrawn, 3 times: rollback event from order to nobody who must act",
        "PaymentVoided, 2 times: rollback event from payment to nobody who must act",
    ]


def test_every_view_has_its_own_address_and_the_back_button_works(page: Any, browser: Any) -> None:
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


def test_a_permalink_fills_the_form_with_seed_and_failure(browser: Any, url: str) -> None:
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


def test_a_customer_called_script_is_text(page: Any) -> None:
    page.get_by_text("The order: who, what").click()
    page.get_by_label("Customer").fill("<script>alert(1)</script><b>Bo</b>")
    fail(page, "nothing fails")
    view(page, "Messages")
    placed = lane(page, "orchestrator").locator("details.message").first
    placed.locator("summary").click()
    expect(placed.locator("pre")).to_contain_text("<script>alert(1)</script><b>Bo</b>")
    assert page.locator("main script, main b").count() == 0


def test_a_failure_that_does_not_exist_is_said_and_not_placed(browser: Any, url: str) -> None:
    with opened(browser, f"{url}/?fail=banana:split", reduced_motion="reduce") as page:
        expect(page.locator("#said")).to_have_text("There is no such failure: banana:split")
        expect(page.get_by_role("button", name="nothing fails")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="Place it").click()
        expect(page.locator("#said")).to_contain_text("Placed.")


def test_nonsense_is_refused_with_a_reason(browser: Any, url: str) -> None:
    with opened(browser, f"{url}/?customer={'x' * 300}", reduced_motion="reduce") as page:
        page.get_by_role("button", name="Place it").click()
        expect(page.locator("#said")).to_contain_text("Not placed.")
        expect(page.locator("#said")).to_contain_text("customer")


def test_an_address_that_nobody_can_read_names_no_order(browser: Any, url: str) -> None:
    with opened(browser, f"{url}/#/orchestrator/%E0%A4%A", reduced_motion="reduce") as page:
        fail(page, "out of stock")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: out of stock")


def test_a_killed_worker_is_an_alarm_and_its_order_goes_on_once_it_is_revived(page: Any) -> None:
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


def test_a_run_of_one_mode_shows_its_lane_alone(browser: Any, url: str) -> None:
    def only_choreography(route: Any) -> None:
        told = route.fetch().json()
        route.fulfill(json=told | {"lanes": [one for one in told["lanes"] if one["mode"] == "choreography"]})

    with opened(browser, url, routes={"**/watch/lanes": only_choreography}, reduced_motion="reduce") as page:
        fail(page, "payment declined")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: payment declined")
        expect(page.locator("#lanes .lane")).to_have_count(1)
        expect(page.locator(".compared")).to_contain_text("the payment gateway said no")


def test_an_order_can_be_withdrawn_while_it_is_open(page: Any) -> None:
    fail(page, "inventory's handler fails at every attempt")  # so it stays open until its deadline
    page.get_by_role("button", name="Withdraw the order").click()
    for mode in MODES:
        expect(lane(page, mode).locator("h3")).to_have_text("✕ Rejected: withdrawn")
    expect(page.get_by_role("button", name="Withdraw the order")).to_be_hidden()


def test_the_graphs_show_where_a_withdrawal_entered_and_what_it_overtook(page: Any) -> None:
    fail(page, "the customer withdraws")
    view(page, "Graph")
    expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: withdrawn")
    expect(page.locator("#story h2")).to_have_text("book x2: the customer withdraws")
    chain = lane(page, "choreography").locator(".node.back.done .name")
    expect(chain).to_have_text(["CancelDelivery", "VoidPayment", "ReleaseStock", "RejectOrder"])
    expect(lane(page, "choreography").locator(".node.running, .node.waiting")).to_have_count(0)
    expect(lane(page, "orchestrator")).to_contain_text("The coordinator heard OrderWithdrawn and commanded")


def test_a_compensation_that_fails_for_good_needs_attention_and_says_who_could_not_do_what(page: Any) -> None:
    fail(page, "the payment cannot be voided")
    for mode in MODES:
        expect(lane(page, mode).locator("h3")).to_contain_text("! Needs attention: VoidPayment")
        expect(page.locator(f".list[data-mode={mode}] li").first).to_contain_text("! Needs attention")
    expect(lane(page, "choreography")).to_contain_text("payment heard DeliveryRejected and could not do VoidPayment")
    view(page, "Graph")
    expect(lane(page, "orchestrator").locator('[data-node="VoidPayment"]')).to_have_class(re.compile("failed"))
    expect(lane(page, "choreography").locator('[data-node="DeliveryRejected/VoidPayment"]')).to_have_class(re.compile("failed"))


def test_an_order_that_needs_attention_says_who_must_act_and_shows_the_call_for_help_as_a_failure(page: Any) -> None:
    fail(page, "the payment cannot be voided")
    expect(page).to_have_url(re.compile("#/"))
    order = page.url.rsplit("/", 1)[-1]
    for mode in MODES:
        expect(lane(page, mode).locator("code")).to_have_text(f"saga order redrive {order} -m {mode}")
        call = lane(page, mode).locator(".arrow.help").filter(has_text="PaymentStepFailed")
        expect(call).to_have_text("✕ PaymentStepFailed")
        refusal = lane(page, mode).locator(".arrow.rollback").first
        expect(call).to_have_css("color", refusal.evaluate("arrow => getComputedStyle(arrow).color"))
    view(page, "Messages")
    call = lane(page, "choreography").locator(".all strong.help")
    expect(call).to_have_text("! PaymentStepFailed")


def test_an_order_that_was_just_placed_is_shown_message_by_message(browser: Any, url: str) -> None:
    with opened(browser, url, reduced_motion="no-preference") as page:
        fail(page, "nobody delivers there")
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


def test_playing_ends_with_the_last_message_whether_or_not_the_order_has_ended(browser: Any, url: str) -> None:
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


def test_a_run_that_is_slowed_down_says_so_and_one_of_real_services_does_not(browser: Any, url: str) -> None:
    def of_real_services(route: Any) -> None:
        told = route.fetch().json()
        route.fulfill(json=told | {"lanes": [one | {"can_kill": False} for one in told["lanes"]]})

    for routes, is_slowed in (({}, True), ({"**/watch/lanes": of_real_services}, False)):
        with opened(browser, url, routes=routes, reduced_motion="reduce") as page:
            fail(page, "nothing fails")
            expect(page.locator("#story h2")).to_have_text("book x2: nothing injected")
            expect(page.locator(".compared")).to_contain_text("Both completed it")
            expect(page.get_by_text("Slowed down so that it can be seen")).to_be_visible(visible=is_slowed)


def test_the_page_comes_back_with_everything_after_the_server_restarts(browser: Any) -> None:
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
        fail(page, "nobody delivers there")
        expect(lane(page, "choreography").locator("h3")).to_have_text("✕ Rejected: undeliverable")
