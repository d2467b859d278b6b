"""An emptied, damaged or set back Redis is filled again by a controller, under running gateways."""

from pathlib import Path

from controllers import epoch_of, guarded, running_controls, seconds_until
from processes import RedisServer, running_gateway, wait_until
from publishing import KEYS, Workshop, assert_served, image_of

LOOKED = "tidegate_control_last_look_timestamp_seconds"
REFILLS = "tidegate_control_refills_total"


def test_an_emptied_redis_is_filled_by_itself(
    server: RedisServer, tmp_path: Path, workshop: Workshop, controller_key: Path
) -> None:
    """Flushed or restarted empty, under a running gateway: the same epoch, and no answer fails."""
    workshop.push(image_of(guarded()))
    pushed = workshop.push(image_of(guarded(**{"workspace.yaml": "workspace: demo\n"})))
    with (
        running_gateway(tmp_path / "gateway", server.url) as gateway,
        running_controls(tmp_path, server.url, workshop.folder, controller_key) as (control,),
    ):
        wait_until(lambda: control.metric(LOOKED), "looks")

        def filled() -> bool:
            assert epoch_of(gateway) == 2
            return workshop.mirror.pointer() == workshop.live().pointer

        for turn, lose in enumerate((workshop.link.flushall, lambda: restart(server))):
            lose()
            took = seconds_until(lambda: workshop.mirror.pointer() and filled(), "it is filled")
            print(f"filled again after {took:.1f} s")  # half a second for the lease, and a turn
            (*_, said) = wait_until(
                lambda at=turn: control.events("redis was filled again from the store")[at:], "log"
            )
            assert (said["epoch"], workshop.live().digest) == (2, pushed.digest)
            assert_served(workshop.link, 2)
        assert control.metric(REFILLS) == 2
        workshop.push(image_of(guarded()))
        wait_until(lambda: epoch_of(gateway) == 3, "a push goes on from there")


def restart(server: RedisServer) -> None:
    """Lose everything with the server."""
    server.kill()
    server.start()


def test_lost_blobs_and_an_older_epoch_are_mended(
    server: RedisServer, tmp_path: Path, workshop: Workshop, controller_key: Path
) -> None:
    """What a Cluster's emptied node loses, and what an old snapshot brings back, is noticed."""
    workshop.push(image_of(guarded()))
    old = workshop.mirror.pointer()
    workshop.push(image_of(guarded(**{"workspace.yaml": "workspace: demo\n"})))
    with running_controls(tmp_path, server.url, workshop.folder, controller_key) as (control,):
        wait_until(lambda: control.metric(LOOKED), "looks")
        workshop.link.delete(KEYS.blob(workshop.live().contents["settings"]))
        wait_until(lambda: control.metric(REFILLS) == 1, "noticed")
        assert_served(workshop.link, 2)
        assert old is not None
        workshop.link.set(KEYS.live, old)
        wait_until(lambda: workshop.mirror.pointer() != old, "it is brought forward")
        assert_served(workshop.link, 2)
