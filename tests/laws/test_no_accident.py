"""Law 6: nobody is downgraded by accident, or gets what does not run or was withdrawn.

Said of the answers alone, without the reference: what is offered, to which phone.
"""

from random import Random
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plans
import snapshots
from compiler.plan import Comparison
from gateway.version import VersionKey, parse_version

_SIGNS = {
    ">=": lambda have, bound: have >= bound,
    ">": lambda have, bound: have > bound,
    "<=": lambda have, bound: have <= bound,
    "<": lambda have, bound: have < bound,
    "=": lambda have, bound: have == bound,
}


def _runs(key: VersionKey, ranges: tuple[Comparison, ...]) -> bool:
    return all(_SIGNS[each.sign](key, parse_version(each.version)) for each in ranges)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=plans.plans(), seed=st.integers(0, 2**32))
def test_no_accident(drawn: Any, seed: int) -> None:
    """Each offer is of a package that runs there, was not withdrawn, and is no surprise."""
    random = Random(seed)
    opened = snapshots.open_plan(*drawn, random)
    apps = {app.id: app for app in opened.plan.apps}
    for phone in plans.phones(opened.plan, random, 40):
        answer = orjson.loads(opened.ask(phone, plans.NOW, down=random.random() < 0.3))
        for got in answer["apps"]:
            if "version" not in got:
                continue
            app = apps[got["app"]]
            package = next(each for each in app.packages if each.version == got["version"])
            assert not package.withdrawn
            assert got["package"]["sha256"] == package.record.sha256  # type: ignore[union-attr]
            if package.clients is not None:
                host = parse_version(phone["client_version"])
                ranges = package.clients[phone["platform"].casefold()]
                assert host is not None
                assert _runs(host, ranges)
            installed = phone["apps"][got["app"]]
            have = parse_version(installed) if installed and len(installed) <= 256 else None
            was_withdrawn = any(each.withdrawn and each.key == have for each in app.packages)
            if got["status"] == "rollback":
                assert was_withdrawn
                assert have is not None
                assert package.key < have
            else:
                assert got["status"] == "update"
                assert have is None or package.key > have
            assert not was_withdrawn or got["upgrade"] == "force"
