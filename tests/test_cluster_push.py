"""Publication on a real Cluster of three nodes: no command names two slots."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from compiler.publication.collection import collect
from compiler.publication.gateways import wait_for_gateways
from compiler.publication.publisher import LostRaceError
from compiler.publication.restore import restore
from compiler.refusal import Refused
from gateway.link import connect_sync, parse_url
from processes import redis_cluster
from publishing import KEYS, WORKSPACE, Workshop, assert_served, image_of, plan_files

IDS = [f"user-{at}" for at in range(20_000)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Cluster for this file."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def workshop(url: str, tmp_path: Path) -> Iterator[Workshop]:
    """Give an empty Cluster and an empty store."""
    link = connect_sync(parse_url(url), timeout_seconds=20)
    link.flushall(target_nodes=redis.RedisCluster.PRIMARIES)
    yield Workshop(tmp_path / "store", link)
    link.close()


def test_push_restore_and_gc_on_a_cluster(workshop: Workshop) -> None:
    """Pushed, lost on all nodes, restored, collected: every key reads back with its digest."""
    files = plan_files(["1", "2"], staff=True)
    first = workshop.push(image_of(files, {"staff": IDS}))
    assert first.buckets > 100
    assert_served(workshop.link, 1)
    nodes = workshop.link.get_primaries()
    sizes = [workshop.link.dbsize(target_nodes=[node]) for node in nodes]
    assert len(sizes) == 3
    assert min(sizes) > 10  # the keys are spread over all nodes

    workshop.link.flushall(target_nodes=redis.RedisCluster.PRIMARIES)
    with pytest.raises(Refused, match="tidegate restore"):
        workshop.push(image_of(files, {"staff": IDS}))
    back = restore(store=workshop.store, link=workshop.link, workspace=WORKSPACE)
    assert (back.number, back.buckets) == (1, first.buckets)
    assert_served(workshop.link, 1)

    old = workshop.redis_keys("bucket")
    for at in (2, 3):
        ids = {"staff": [f"{at}-{each}" for each in IDS]}
        assert workshop.push(image_of(files, ids)).number == at
    where = {"store": workshop.store, "link": workshop.link, "workspace": WORKSPACE}
    gone = collect(**where, now=workshop.now + 7200, keep=1)
    assert gone.redis_keys > len(old)
    assert not old & workshop.redis_keys("bucket")
    assert_served(workshop.link, 3)


def test_refusals_and_waiting_on_a_cluster(workshop: Workshop) -> None:
    """Compare-and-set, announcements and every node's eviction policy work as on one server."""
    one, two = (image_of(plan_files(versions)) for versions in (["1"], ["1", "2"]))
    workshop.push(one)

    def overtake(what: str, done: int, total: int) -> None:
        if what.startswith("Redis") and workshop.live().number == 1:
            workshop.push(image_of(plan_files(["1", "3"])))

    with pytest.raises(LostRaceError, match="Another push was faster: epoch 2"):
        workshop.push(two, progress=overtake)
    workshop.announce("gw-1", epoch=2)
    workshop.announce("gw-2", epoch=1)
    served = wait_for_gateways(workshop.mirror, 2, timeout_seconds=0)
    assert (served.serving, served.laggards) == (1, ("gw-2",))
    workshop.mirror.give_notice(workshop.live().pointer)  # reaches a channel of the whole Cluster
    last = workshop.link.get_primaries()[-1]
    workshop.link.config_set("maxmemory-policy", "volatile-ttl", target_nodes=[last])
    with pytest.raises(Refused, match="volatile-ttl"):
        workshop.push(two)
    workshop.link.config_set("maxmemory-policy", "noeviction", target_nodes=[last])
    assert workshop.link.get(KEYS.live) == workshop.live().pointer
