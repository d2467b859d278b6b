"""Doubts about switches: what is legal in switches.yaml, but surely not meant."""

from compiler.language.doubts import contradiction, doubt_audience, doubt_repetitions
from compiler.language.draft import Draft, SwitchDraft, TargetingDraft
from compiler.language.faults import Faults, quote
from compiler.language.shadows import Rules, flattened
from compiler.plan import Condition

_EVERYBODY = 10_000  # basis points
_EXACT = 1 << 53  # beyond, a float of 64 bits, and so JavaScript, leaves integers out


def doubt_switches(draft: Draft, faults: Faults) -> None:
    """Report every doubt about a plan's switches."""
    rules = {rule.name.value: rule for rule in draft.rules}
    for switch in draft.switches:
        _doubt_variants(switch, faults)
        for row in switch.targeting:
            _doubt_row(row, rules, faults)
        _doubt_order(switch, faults)


def _doubt_variants(switch: SwitchDraft, faults: Faults) -> None:
    """Doubt an integer that many a client reads as another one."""
    for name, value in switch.variants.items():
        if type(value) is int and abs(value) > _EXACT:
            faults.warning(
                switch.span,
                f"The variant {quote(name)} is an integer beyond 2^53, which JavaScript rounds. "
                "Write it in quotes, as text.",
            )


def _doubt_row(row: TargetingDraft, rules: Rules, faults: Faults) -> None:
    doubt_repetitions([one for one in row.when if isinstance(one, Condition)], faults)
    doubt_audience(row.audience, faults)
    percent = row.audience.percent
    if percent is not None and percent.value == 0:
        faults.warning(
            percent.span, "0 percent reaches nobody. Write a larger number, or delete the row."
        )
    attribute = contradiction(flattened(row, rules))
    if attribute is not None:
        faults.warning(
            row.span,
            f"This row can never hold: no {attribute} meets all of its conditions. Correct one "
            "of them; alternatives go into one list.",
        )


def _doubt_order(switch: SwitchDraft, faults: Faults) -> None:
    """Doubt what stands behind a row that holds for everybody."""
    for at, row in enumerate(switch.targeting[:-1]):
        if row.split is None and _holds_for_all(row):
            faults.warning(
                switch.targeting[at + 1].span,
                f"The row on line {row.span.line} holds for everybody, so this one never "
                "decides. Move it up, or delete it.",
            )
            break


def _holds_for_all(row: TargetingDraft) -> bool:
    audience = row.audience
    percent = audience.percent is None or audience.percent.value == _EVERYBODY
    free = not (audience.lists or audience.not_lists or row.when or row.same_as)
    return percent and free
