"""The log lines of `saga up` and the workers: JSON for scripts, short text for people."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
import typer

from cli.logs import as_text, configure


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def lines(output: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in output.splitlines()]


def test_every_line_has_mode_and_service(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_events_below_the_level_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", people=False)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(capsys.readouterr().out)] == ["loud"]


@pytest.mark.parametrize("library", ["aio_pika", "aiormq.connection", "pymongo.topology", "aiohttp.client", "uvicorn.error"])
def test_warnings_of_libraries_are_logged_and_lower_levels_are_not(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", mode="orchestrator", service="order", people=False)
    logging.getLogger(library).info("chatter")
    logging.getLogger(library).warning("lost %s", "something")
    (line,) = lines(capsys.readouterr().out)
    assert (line["event"], line["logger"], line["level"]) == ("library_message", library, "warning")
    assert line["text"] == "lost something"
    assert (line["mode"], line["service"]) == ("orchestrator", "order")


def test_traceback_and_nonstandard_level_of_a_library_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", people=False)
    try:
        int("the cause")
    except ValueError:
        logging.getLogger("aiormq").log(35, "odd", exc_info=True)
    (line,) = lines(capsys.readouterr().out)
    assert line["level"] == "warning"
    assert "the cause" in line["exception"]


def test_unknown_level_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        configure("shout")
    assert ended.value.exit_code == 2
    assert "no level 'shout'" in capsys.readouterr().err


def test_text_has_the_service_as_prefix_and_no_constant_fields() -> None:
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
def test_text_from_a_message_is_neither_markup_nor_terminal_control(hostile: str) -> None:
    text = as_text({"event": "message_dead_lettered", "service": "payment", "detail": hostile}).plain
    assert text.isprintable()
    assert text.endswith(hostile if hostile.isprintable() else repr(hostile))
