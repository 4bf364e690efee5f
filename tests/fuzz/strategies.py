"""What may stand in files, numbers and texts that come from elsewhere, and what refusals must look like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


def fuzz(examples: int) -> settings:
    """The same examples in every run."""
    checks = list(HealthCheck)
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=checks)


numbers = st.one_of(
    st.floats(), st.integers(-10, 10_000), st.sampled_from([0.0, 1.0, 0.5, 1e-300, 1e300, 2**63, 5e-324])
)
texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


@contextmanager
def refused_in_one_line(kind: type[ValueError] = ValueError) -> Iterator[None]:
    """What is inside ends well, or with an error of that kind whose message is one line for the user."""
    try:
        yield
    except kind as error:
        assert str(error).strip() and len(str(error).splitlines()) == 1, repr(str(error))
