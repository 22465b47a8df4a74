"""The root cause: every reason has a meaning."""

from observer.root_cause import MEANINGS
from services.vocabulary import Reason


def test_every_reason_but_the_deadline_has_a_meaning() -> None:
    """Behind a deadline stands the worker that had not answered, which test_history.py tests."""
    assert set(MEANINGS) == set(Reason) - {Reason.DEADLINE}
