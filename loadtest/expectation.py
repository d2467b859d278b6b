"""The answer that an epoch's plan gives one app of a check, member by member. Pure.

Written from the contract and slowly, beside the reference evaluator that decides: nothing of how a
gateway chooses forms and patches, or renders, is used here.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from compiler.plan import CdnRule, Encryption, Package
from compiler.reference import Verdict, sent_value
from gateway.cdn import secure_link
from gateway.version import parse_version
from loadtest.rules import Rules

ANY = "*"
"""Stands in a signed URL for the signature, where the secret is not known."""

UNSAID = ("gzip", "bsdiff4")
"""What a client opens that does not say."""

_APP_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_IDENTITY = "identity"


def expected(
    rules: Rules, phone: Mapping[str, Any], app_id: str, verdict: Verdict, second: int
) -> dict[str, Any]:
    """Write the whole answer for one app of which the reference said `verdict`.

    The `detail` of an `invalid` one is not the contract's, and is left out.
    """
    status = verdict.status
    if status == "unknown" and not _APP_ID.fullmatch(app_id):
        status = "invalid"
    content: dict[str, Any] = {"app": app_id, "status": status}
    if verdict.version is None:
        return content
    package = next(p for p in rules.apps[app_id].packages if p.version == verdict.version)
    content |= {"version": verdict.version, "release": verdict.release, "upgrade": verdict.upgrade}
    content |= {"download": package.download, "install": package.install}
    if package.has_info:
        content["info"] = package.info
    return content | _transfers(rules, phone, app_id, package, second)


def _transfers(
    rules: Rules, phone: Mapping[str, Any], app_id: str, package: Package, second: int
) -> dict[str, Any]:
    """Write what is fetched: the smallest form, the smallest patch if that is smaller still."""
    record = package.record
    assert record is not None, "a package on offer has a record"
    opened = _opened(phone)
    forms = [each for each in record.forms if each.compression in (_IDENTITY, *opened)]
    form = min(forms, key=lambda each: (each.size, each.compression))

    def urls(path: str) -> list[str]:
        return _urls(rules, sent_value("region", phone, app_id), path, second)

    content: dict[str, Any] = {
        "package": {"size": record.size, "sha256": record.sha256, "urls": urls(form.path)}
    }
    if form.compression != _IDENTITY:
        content["package"]["compression"] = form.compression
    if form.compression != _IDENTITY or record.encryption is not None:
        content["package"] |= {"transfer_size": form.size, "transfer_sha256": form.sha256}
    have = sent_value("installed", phone, app_id)
    key = None if have is None else parse_version(str(have))
    patches = [
        each
        for each in rules.patches.get(app_id, {}).get(package.version, ())
        if each["format"] in opened and key is not None and parse_version(each["installed"]) == key
    ]
    best = min(patches, key=lambda each: (each["size"], each["format"]), default=None)
    if best is not None and best["size"] < form.size:
        content["patch"] = {
            "from": best["installed"],
            "format": best["format"],
            "urls": urls(best["path"]),
            "transfer_size": best["size"],
            "transfer_sha256": best["sha256"],
        }
    if record.encryption is not None:
        content["encryption"] = _encryption(record.encryption)
    if record.signatures:
        content["signatures"] = list(record.signatures)
    return content


def _encryption(encryption: Encryption) -> dict[str, str]:
    return {"format": encryption.format, "key_id": encryption.key_id}


def _opened(phone: Mapping[str, Any]) -> tuple[str, ...]:
    accept = phone.get("accept")
    if not isinstance(accept, list):
        return UNSAID
    return tuple(name for name in accept if isinstance(name, str))


def _urls(rules: Rules, region: Any, path: str, second: int) -> list[str]:
    rule = next((each for each in rules.plan.workspace.cdn if _serves(each, region)), None)
    if rule is None:
        return []
    plain = [f"{base}/{path}" for base in rule.bases]
    if not rule.expires:
        return plain
    # Until the end of the period after this one.
    end = (second // rule.expires + 2) * rule.expires
    if rules.url_secret is None:
        return [f"{url}?md5={ANY}&expires={end}" for url in plain]
    return [secure_link(url, rules.url_secret, end) for url in plain]


def _serves(rule: CdnRule, region: Any) -> bool:
    if region is None:
        return "*" in rule.regions
    return any(_pattern(each).fullmatch(region.casefold()) for each in rule.regions)


@lru_cache(4096)
def _pattern(glob: str) -> re.Pattern[str]:
    signs = {"*": ".*", "?": "."}
    text = "".join(signs.get(char) or re.escape(char) for char in glob.casefold())
    return re.compile(text, re.DOTALL)
