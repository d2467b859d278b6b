"""Settings from the environment, and how a gateway says that it cannot start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from epochs import KEY, public_key
from gateway.config import VARIABLES, ConfigError, Endpoint, read_config, usage
from gateway.signing import public_line
from gateway.store_place import PLACES, Bucket
from processes import ROOT

LEAST = {"TIDEGATE_WORKSPACE": "demo"}
SAME = "it is the same as TIDEGATE_LISTEN. Give it another port."
EMPTY = "there is no key in it. Unset it to trust any key, or add name:base64."
NO_URL = (
    "http:// is no Redis URL. Write redis://HOST:PORT/0, unix:///PATH, "
    "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or redis+cluster://HOST:PORT,HOST:PORT; with TLS "
    "rediss://…, rediss+sentinel://… or rediss+cluster://…."
)
NO_KEY = (
    "Trusted keys, line 1: what follows ann: is not 32 bytes in base64. "
    "Copy the whole line from the .pub file that `tidegate keygen` made."
)
ANN = public_line(public_key(KEY))


def faults(**variables: str) -> tuple[str, ...]:
    """Give the faults of an environment, names without TIDEGATE_."""
    given = LEAST | {f"TIDEGATE_{name}": text for name, text in variables.items()}
    with pytest.raises(ConfigError) as found:
        read_config(given)
    return found.value.faults


def test_a_workspace_is_all_that_must_be_set() -> None:
    """Everything else has the default that the contract names."""
    config = read_config(LEAST)
    assert config.listen == Endpoint("127.0.0.1", 8080)
    assert config.admin_listen == Endpoint("127.0.0.1", 9080)
    assert config.redis.shown == "redis://127.0.0.1:6379/0"
    assert config.cache == Path(".tidegate/gateway/demo")
    assert config.store is None
    assert config.trusted == ()
    assert config.name == f"{socket.gethostname()}-{os.getpid()}"
    assert config.lookup_timeout_ms == 50
    assert config.workers == 1


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("WORKSPACE", "", "it is not set. Name the workspace to serve, for example demo."),
        ("WORKSPACE", "a/b", "'a/b' is no name. Use up to 64 letters, digits and ._- of ASCII."),
        ("WORKSPACE", "..", "'..' is no name. Use up to 64 letters, digits and ._- of ASCII."),
        ("LISTEN", "8080", "'8080' is no HOST:PORT. Write for example 0.0.0.0:8080."),
        ("LISTEN", "a:70000", "'a:70000' is no HOST:PORT. Write for example 0.0.0.0:8080."),
        (
            "LISTEN",
            "a:\uff18\uff10",
            "'a:\uff18\uff10' is no HOST:PORT. Write for example 0.0.0.0:8080.",
        ),
        (
            "REDIS",
            "http://x",
            NO_URL,
        ),
        ("STORE", "s3://", "s3:// names no bucket. Write s3://BUCKET/PREFIX."),
        ("STORE", "ftp://x", f"No store can be at ftp://. Give {PLACES}."),
        ("DRAIN_SECONDS", "-1", "'-1' is no number of seconds from 0 to 3600."),
        ("DRAIN_SECONDS", "nan", "'nan' is no number of seconds from 0 to 3600."),
        ("LOOKUP_TIMEOUT_MS", "0", "'0' is no whole number from 1 to 10,000."),
        ("CHECKS", "many", "'many' is no whole number from 1 to 1,000,000."),
        ("CHECKS", "9" * 5_000, f"'{'9' * 40}' is no whole number from 1 to 1,000,000."),
        ("WORKERS", "0", "'0' is no whole number from 1 to 256, nor is it auto."),
        ("WORKERS", "all", "'all' is no whole number from 1 to 256, nor is it auto."),
        ("TRUSTED_KEYS", "#:", EMPTY),
        (
            "TRUSTED_KEYS",
            "ann:x",
            NO_KEY,
        ),
        ("ADMIN_LISTEN", "127.0.0.1:8080", SAME),
    ],
)
def test_each_wrong_setting_is_named(name: str, text: str, sentence: str) -> None:
    """A wrong value is answered by the variable's name and a sentence that says what to write."""
    assert faults(**{name: text}) == (f"TIDEGATE_{name}: {sentence}",)


def test_a_store_is_a_folder_or_a_bucket() -> None:
    """A path and a file:// URL name a folder; other URLs name a bucket, and a folder in it."""

    def store(text: str) -> Path | Bucket | None:
        return read_config(LEAST | {"TIDEGATE_STORE": text}).store

    assert store("/srv/my store") == store("file:///srv/my%20store") == Path("/srv/my store")
    assert store("s3://bucket") == store("s3://bucket/") == Bucket("s3", "bucket", "")
    assert store("gs://bucket/a/b/") == store("gs://bucket/a/b") == Bucket("gs", "bucket", "a/b/")
    assert str(store("az://box/a")) == "az://box/a"


def test_a_bucket_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without obstore a URL is answered by how to install it; a folder needs nothing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    (fault,) = faults(STORE="s3://bucket")
    assert fault.startswith("TIDEGATE_STORE: A store at a URL needs the package obstore.")
    assert fault.endswith("Install it: pip install 'tidegate[store]'")
    assert read_config(LEAST | {"TIDEGATE_STORE": "/srv/x"}).store == Path("/srv/x")


def test_a_folder_needs_no_package_for_buckets(tmp_path: Path) -> None:
    """A gateway whose store is a folder never imports obstore, also when it reads the store."""
    script = """
import sys
from pathlib import Path
sys.modules["obstore"] = None
from gateway import cold_start
from gateway.config import read_config
config = read_config({"TIDEGATE_WORKSPACE": "demo", "TIDEGATE_STORE": sys.argv[1]})
assert cold_start.read_pointer(config.store) is None
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True, timeout=120)


def test_every_fault_is_named_at_once() -> None:
    """One start shows everything that is wrong."""
    found = faults(WORKSPACE="", LISTEN="x", REDIS="x", CHECKS="x", TRUSTED_KEYS="/no/such/file")
    assert [sentence.partition(":")[0] for sentence in found] == [
        "TIDEGATE_WORKSPACE",
        "TIDEGATE_LISTEN",
        "TIDEGATE_REDIS",
        "TIDEGATE_TRUSTED_KEYS",
        "TIDEGATE_CHECKS",
    ]


def test_trusted_keys_come_from_a_file_or_as_text(tmp_path: Path) -> None:
    """Keys may stand in the variable itself or in the file that it names; an empty one is none."""
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{ANN}\n")
    for text in (ANN, str(path), f"{ANN},{ANN}"):
        config = read_config(LEAST | {"TIDEGATE_TRUSTED_KEYS": text})
        assert config.trusted == (public_key(KEY),)
    path.write_text("\n")
    assert "there is no key in it" in faults(TRUSTED_KEYS=str(path))[0]


def test_workers_are_a_number_or_one_for_each_core() -> None:
    """`auto` counts the cores that this process may use, not those of the machine."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert read_config(LEAST | {"TIDEGATE_WORKERS": "auto"}).workers == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert read_config(LEAST | {"TIDEGATE_WORKERS": "auto"}).workers == len(allowed)
    assert read_config(LEAST | {"TIDEGATE_WORKERS": "3"}).workers == 3


def test_a_password_is_never_shown() -> None:
    """The address that is logged has no password."""
    config = read_config(LEAST | {"TIDEGATE_REDIS": "redis://me:secret@host:6379/0"})
    assert "secret" not in config.redis.shown


def test_help_lists_every_variable() -> None:
    """`--help` names each variable with its meaning and default."""
    for variable in VARIABLES:
        assert variable.name in usage()
        assert variable.meaning in usage()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m gateway` to its end."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_gateway_that_cannot_start_says_why_and_exits_with_2() -> None:
    """Faults go to stderr as sentences, without a traceback; help goes to stdout."""
    wrong = run()
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "TIDEGATE_WORKSPACE: it is not set. Name the workspace to serve, for example demo.\n"
    )
    assert run("--help").stdout == usage() + "\n"
    assert run("serve").returncode == 2


def test_a_port_in_use_is_named_with_the_line_to_type(tmp_path: Path) -> None:
    """A port that somebody else has is named, with a line that would work."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = run(
            TIDEGATE_WORKSPACE="demo",
            TIDEGATE_LISTEN=f"127.0.0.1:{port}",
            TIDEGATE_CACHE=str(tmp_path),
        )
    assert found.returncode == 2
    assert found.stderr == (
        f"TIDEGATE_LISTEN: 127.0.0.1:{port} is in use. Choose another port, for example: "
        f"TIDEGATE_LISTEN=127.0.0.1:{port + 1} python -m gateway\n"
    )


@pytest.mark.parametrize(
    "last", ['"', "'", "$", "\\", " x", "\tx", "é", os.fsdecode(b"\xff"), "\x7f"]
)
def test_a_secret_is_what_nginx_takes_as_it_is(last: str) -> None:
    """One that the CDN would read otherwise, or that is no text at all, is refused at the start."""
    secret = "0123456789abcdef;{}#"
    assert read_config(LEAST | {"TIDEGATE_URL_SECRET": f" {secret}\n"}).url_secret == secret
    with pytest.raises(ConfigError, match=r"TIDEGATE_URL_SECRET: .* printable ASCII") as refused:
        read_config(LEAST | {"TIDEGATE_URL_SECRET": secret + last})
    assert secret not in str(refused.value)
