"""A list that lost half of its ids lost them by accident, until somebody says otherwise."""

from compiler.diagnostic import Diagnostic, error
from compiler.plan import Span

_LISTS_FILE = Span("lists.yaml", 0, 0)


def check_shrink(
    name: str, old_count: int, new_count: int, span: Span = _LISTS_FILE
) -> Diagnostic | None:
    """Give an error when a list has lost half of its ids or more, for a push to refuse."""
    if not old_count or new_count * 2 > old_count:
        return None
    return error(
        span,
        f'list "{name}" would shrink from {old_count:,} to {new_count:,} ids. '
        "If that is meant, push with --allow-shrink.",
    )
