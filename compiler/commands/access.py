"""`tidegate redis-acl`: the least that Redis must allow."""

from typing import Annotated

import typer

from compiler.commands.console import note, say, say_json
from compiler.commands.session import DEFAULT_REDIS, AsJson, RedisUrl, WorkspaceName, open_session
from gateway.link import Kind
from gateway.rights import Role, acl_line, sentinel_acl_line


def redis_acl(
    redis: RedisUrl = DEFAULT_REDIS,
    workspace: WorkspaceName = "",
    gateway_user: Annotated[
        str, typer.Option("--gateway-user", metavar="NAME", help="Default: WORKSPACE-gateway.")
    ] = "",
    operator_user: Annotated[
        str, typer.Option("--operator-user", metavar="NAME", help="Default: WORKSPACE-operator.")
    ] = "",
    sentinel: Annotated[
        bool, typer.Option("--sentinel", help="The line for the Sentinels, not for Redis.")
    ] = False,
    redis_6: Annotated[
        bool, typer.Option("--redis-6", help="For Redis 6.2, which cannot tell reading apart.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the rules of Redis's ACL that gateways and operators need, and no other.

    Redis is not asked; only what kind of URL it has counts. A workspace has two users, one for its
    gateways, one for whoever pushes. Give the lines to every server, then a password to each user:
    ACL SETUSER demo-gateway >SECRET in redis-cli, and ACL SAVE or CONFIG REWRITE. The same lines
    given again, as after an upgrade, leave passwords as they are.

    With them the URL is redis://demo-gateway:SECRET@HOST:6379/0.
    """
    session = open_session(redis, "", workspace)
    kind = session.address.kind
    if sentinel and kind is not Kind.SENTINEL:
        raise typer.BadParameter("--sentinel needs --redis redis+sentinel://HOST:PORT/SERVICE.")
    users = {
        Role.GATEWAY: gateway_user or f"{session.workspace}-gateway",
        Role.OPERATOR: operator_user or f"{session.workspace}-operator",
    }
    for name in users.values():
        if not name.isprintable() or set(name) & set(" \"'"):
            raise typer.BadParameter(f"{name!r} is no user's name: it may have no blank or quote.")
    lines = {
        role.value: sentinel_acl_line(user)
        if sentinel
        else acl_line(role, user, session.workspace, kind, reads_apart=not redis_6)
        for role, user in users.items()
    }
    if as_json:
        say_json(lines)
        return
    for line in lines.values():
        say(line)
    if kind is Kind.SENTINEL and not sentinel:
        note("If the Sentinels have an ACL, too: tidegate redis-acl --sentinel")
