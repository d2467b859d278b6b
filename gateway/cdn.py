"""The CDN: where a client of some region fetches a file from. Pure.

A rule with `expires` has signed URLs, as nginx's secure_link module checks them:

    secure_link      $arg_md5,$arg_expires;
    secure_link_md5  "$secure_link_expires$uri SECRET";

URLs are the same for a whole period of `expires` seconds, so that answers stay ready-made bytes;
they hold until the end of the next period, and so for one to two times `expires`.
"""

import base64
import hashlib
from urllib.parse import unquote, urlsplit

from gateway import layout
from gateway.errors import FormatError
from gateway.program import glob_matcher
from gateway.remembered import Memory, Remembered


class Cdn:
    """The rules of a workspace. A *place* is a rule and, where it signs, a period of time.

    `regions` maps a region, or None, to the number of its rule; the number after the last one has
    no bases. With `signs` some rule has signed URLs: then `place` gives the place of a rule's
    number at a second, else the number is the place.
    """

    __slots__ = ("_count", "_secret", "regions", "rules", "signs")

    def __init__(self, rules: list[layout.Cdn], secret: str | None, memory: Memory) -> None:
        """Take the rules; FormatError where one signs and there is no secret."""
        self.rules = rules
        self.regions = _regions(rules, memory)
        self.signs = any(rule["expires"] for rule in rules)
        if self.signs and secret is None:
            raise FormatError(
                "a rule of its CDN signs URLs, and TIDEGATE_URL_SECRET is not set here"
            )
        self._count = len(rules) + 1
        self._secret = secret

    def place(self, rule: int, second: int) -> int:
        """Give the place of a rule's number at a Unix second."""
        expires = self.rules[rule]["expires"] if rule < len(self.rules) else None
        return rule + self._count * (second // expires) if expires else rule

    def period(self, place: int) -> tuple[int, int]:
        """Give the number of a place's period, 0 where nothing is signed, and that of its rule."""
        return divmod(place, self._count)

    def urls(self, place: int, path: str) -> list[str]:
        """Give the ordered URLs of a file by its path in the store."""
        period, number = self.period(place)
        if number == len(self.rules):
            return []
        rule = self.rules[number]
        urls = [f"{base}/{path}" for base in rule["bases"]]
        if not rule["expires"]:
            return urls
        assert self._secret is not None
        end = (period + 2) * rule["expires"]
        return [secure_link(url, self._secret, end) for url in urls]


def secure_link(url: str, secret: str, expires: int) -> str:
    """Sign a URL without a query until the Unix second `expires`, which is included."""
    uri = unquote(urlsplit(url).path)  # as nginx's $uri has it
    digest = hashlib.md5(f"{expires}{uri} {secret}".encode(), usedforsecurity=False).digest()
    md5 = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"{url}?md5={md5}&expires={expires}"


def _regions(rules: list[layout.Cdn], memory: Memory) -> Remembered:
    matchers = [glob_matcher(each["regions"]) for each in rules]
    anywhere = [at for at, each in enumerate(rules) if "*" in each["regions"]]

    def work_out(region: str | None) -> int:
        if region is None:
            return anywhere[0] if anywhere else len(rules)
        folded = region.casefold()
        return next((at for at, matches in enumerate(matchers) if matches(folded)), len(rules))

    return Remembered(work_out, memory)
