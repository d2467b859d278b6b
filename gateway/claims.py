"""What clients claim of releases with a guardrail, and whom those were offered to. Pure; bounded.

A guardrail counts a report only of somebody to whom the release was offered lately, so that made-up
ids pause nothing. Both leave for Redis each second (guarding.py), where all gateways meet. A report
may overtake the note of its offer, which another gateway took: it is asked about TRIES times.
"""

from collections.abc import Collection

from gateway.report import Place

GUARDED = ("installed", "failed")
"""The events that a guardrail compares."""

MOST_OFFERS = 2_000
"""Offers that one process notes in a turn. In a storm that is a sample: who is not in it may be
when asking again, and whose report is not counted is missing on both sides of the share."""

MOST_REPORTS = 20_000
"""Reports that wait at first, and as many that wait to be asked about again: 3 MB in all."""

TRIES = 4

Offered = tuple[str, str]
"""A release, by app and id."""


class Claims:
    """One process's notes of offers and of reports, on their way to Redis."""

    def __init__(self) -> None:
        self._offers: dict[Offered, set[int]] = {}
        self._room = MOST_OFFERS
        self._reports: dict[Place, set[int]] = {}
        self._held = 0
        # Those that were not known as offered, by how often they will be asked about again.
        self._again: list[dict[Place, set[int]]] = [{} for _ in range(TRIES)]

    def offer(self, release: Offered, subject: int) -> None:
        """Note that a release was offered to a subject, by its hash."""
        subjects = self._offers.get(release)
        if subjects is None:
            subjects = self._offers[release] = set()
        if self._room and subject not in subjects:
            subjects.add(subject)
            self._room -= 1

    def report(self, place: Place, subject: int) -> None:
        """Note what a subject reported, once."""
        subjects = self._reports.get(place)
        if subjects is None:
            subjects = self._reports[place] = set()
        if self._held < MOST_REPORTS and subject not in subjects:
            subjects.add(subject)
            self._held += 1

    def take_offers(self) -> dict[Offered, set[int]]:
        """Give the offers of this turn, and begin the next one."""
        taken, self._offers = self._offers, {}
        self._room = MOST_OFFERS
        return taken

    def take_reports(self) -> list[tuple[int, Place, set[int]]]:
        """Give the reports to ask about now, each with how often it may be asked about again."""
        new, self._reports, self._held = self._reports, {}, 0
        found = [(TRIES - 1, place, subjects) for place, subjects in new.items()]
        for left, waiting in enumerate(self._again):
            found += [(left, place, subjects) for place, subjects in waiting.items()]
        self._again = [{} for _ in range(TRIES)]
        return found

    def ask_again(self, left: int, place: Place, subjects: Collection[int]) -> None:
        """Keep for the next turn whom no offer was known of, while tries are left and room is."""
        if not left:
            return
        waiting = sum(len(some) for again in self._again for some in again.values())
        kept = self._again[left - 1].setdefault(place, set())
        kept.update(list(subjects)[: max(0, MOST_REPORTS - waiting)])
