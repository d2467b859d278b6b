r"""nginx returning a constant, by one worker: what an HTTP request costs when nothing is asked.

`return` has nginx read a request's body off the connection and throw it away; with these small
requests it comes in the same read as the head.
"""

import shutil
from pathlib import Path

_CONF = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{text}'; }}
  }}
}}
"""


def binary() -> str | None:
    """Find nginx: on the PATH, or where Debian puts it."""
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def command(folder: Path, port: int, answer: bytes) -> list[str]:
    """Write the configuration into a folder, and give the command that serves it."""
    text = answer.decode().replace("\\", "\\\\").replace("'", "\\'")
    assert "$" not in text, "nginx would take it for a variable"
    conf = folder / "nginx.conf"
    conf.write_text(_CONF.format(folder=folder, port=port, text=text))
    return [binary() or "nginx", "-c", str(conf)]
