"""What `saga up` and the workers print: JSON for scripts, short lines for people, whoever has spoken."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
import typer

from cli.logs import as_text, configure


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def lines(said: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in said.splitlines()]


def test_every_line_tells_who_and_in_which_mode(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", mode="choreography", service="payment", people=False)
    structlog.get_logger().info("handled", order_id="one", message_id="two")
    (line,) = lines(capsys.readouterr().out)
    assert line.pop("timestamp")
    assert line == {
        "event": "handled",
        "level": "info",
        "mode": "choreography",
        "service": "payment",
        "order_id": "one",
        "message_id": "two",
    }


def test_levels_below_the_chosen_one_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", people=False)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(capsys.readouterr().out)] == ["loud"]


@pytest.mark.parametrize("library", ["aio_pika", "aiormq.connection", "pymongo.topology", "aiohttp.client", "uvicorn.error"])
def test_a_librarys_warnings_come_the_same_way_and_its_chatter_does_not(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", mode="orchestrator", service="order", people=False)
    logging.getLogger(library).info("chatter")
    logging.getLogger(library).warning("lost %s", "something")
    (line,) = lines(capsys.readouterr().out)
    assert (line["event"], line["logger"], line["said"], line["level"]) == ("library", library, "lost something", "warning")
    assert (line["mode"], line["service"]) == ("orchestrator", "order")


def test_a_librarys_traceback_and_a_level_of_its_own_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", people=False)
    try:
        int("the cause")
    except ValueError:
        logging.getLogger("aiormq").log(35, "odd", exc_info=True)
    (line,) = lines(capsys.readouterr().out)
    assert line["level"] == "warning"
    assert "the cause" in line["exception"]


def test_a_level_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        configure("shout")
    assert ended.value.exit_code == 2
    assert "no level 'shout'" in capsys.readouterr().err


def test_people_get_a_prefix_and_only_what_is_new() -> None:
    event = {
        "event": "handled",
        "level": "info",
        "timestamp": "now",
        "mode": "choreography",
        "service": "payment",
        "order_id": "x",
    }
    assert as_text(event).plain == "[payment]     handled order_id=x"


@pytest.mark.parametrize("hostile", ["[/x]", "[bold]", "\x1b[2J", "two\nlines"])
def test_words_that_came_with_a_message_are_neither_markup_nor_orders_to_the_terminal(hostile: str) -> None:
    told = as_text({"event": "dead_letter", "service": "payment", "detail": hostile}).plain
    assert told.isprintable()
    assert told.endswith(hostile if hostile.isprintable() else repr(hostile))
