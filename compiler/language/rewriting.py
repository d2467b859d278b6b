"""One value is written into a plan file's text: comments, order and all else stay as they are.

The text is edited where the parser found the value, or behind the key that names the thing. The
caller reads the result again: what cannot be written so is left to people.
"""

import json
from collections.abc import Callable

import yaml

from compiler.overrides import What
from compiler.plan import percent_text
from gateway.layout import Override
from gateway.version import parse_version


def rewritten(text: str, override: Override) -> str | None:
    """Write an override into the text of its app's file, of workspace.yaml, or of switches.yaml.

    None if its place is not found, or what is written there could not be read again. That it says
    what it should is for the caller to see: a switch with targeting does not by its default alone.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark)
    root = yaml.compose(text, Loader=yaml.CSafeLoader)
    found = _written(text, root, override) if isinstance(root, yaml.MappingNode) else None
    if found is None:
        return None
    try:
        yaml.compose(found, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:  # as of keys written with a question mark
        return None
    return mark + found


_OF_SWITCH: dict[str, str] = {What.ENABLED: "enabled", What.VARIANT: "default"}


def _written(text: str, root: yaml.MappingNode, override: Override) -> str | None:
    what, name, value = override["what"], override["name"], override["value"]
    if what == What.CHECK_AFTER:
        return _set(text, root, "check_after", value, "workspace")
    if what == What.WITHDRAWN:
        key = parse_version(name)
        package = _item(root, "packages", "version", lambda text: parse_version(text) == key)
        return None if package is None else _set(text, package, "withdrawn", value, "version")
    if what in _OF_SWITCH:
        switch = _item(root, "switches", "key", lambda text: text == override["app"])
        return None if switch is None else _set(text, switch, _OF_SWITCH[what], value, "key")
    release = _item(root, "releases", "id", lambda text: text == name)
    if release is not None and what == What.STATE:
        return _set(text, release, "state", value, "id")
    if release is not None and what == What.PERCENT:
        return _set_percent(text, release, percent_text(int(value)))
    return None


def _set_percent(text: str, release: yaml.MappingNode, percent: str) -> str | None:
    entry = _entry(release, "audience")
    if entry is None:
        return None
    if isinstance(entry[1], yaml.MappingNode):
        return _set(text, entry[1], "percent", percent)
    quote = '"' if entry[0].style else ""
    return _set(text, release, "audience", f"{{{quote}percent{quote}: {percent}}}")


def _entry(mapping: yaml.MappingNode, key: str) -> tuple[yaml.ScalarNode, yaml.Node] | None:
    return next((pair for pair in mapping.value if pair[0].value == key), None)


def _item(
    root: yaml.MappingNode, key: str, name: str, is_meant: Callable[[str], bool]
) -> yaml.MappingNode | None:
    """Find the mapping in a list whose `name` is meant."""
    entry = _entry(root, key)
    for item in entry[1].value if entry is not None else ():
        found = _entry(item, name) if isinstance(item, yaml.MappingNode) else None
        if found is not None and is_meant(found[1].value):
            return item  # type: ignore[no-any-return]
    return None


def _set(text: str, mapping: yaml.MappingNode, key: str, value: str, after: str = "") -> str:
    """Give a key of a mapping another value; a new one comes behind `after`, or the first."""
    entry = _entry(mapping, key)
    if entry is not None:
        old = entry[1]
        if isinstance(old, yaml.SequenceNode) and not old.flow_style:
            head, colon, tail = text[entry[0].end_mark.index : old.start_mark.index].partition(":")
            comment = tail.partition("\n")[0].rstrip()
            start = text[: entry[0].end_mark.index]
            return f"{start}{head}{colon} {value}{comment}{text[_end(old) :]}"
        shown = _flow(value, quoted=bool(isinstance(old, yaml.ScalarNode) and old.style))
        return f"{text[: old.start_mark.index]}{shown}{text[_end(old) :]}"
    first, behind = _entry(mapping, after) or mapping.value[0]
    at = _end(behind)
    if mapping.flow_style:
        shown = json.dumps(key) if first.style else key
        return f"{text[:at]}, {shown}: {_flow(value, quoted=bool(first.style))}{text[at:]}"
    newline = "\r\n" if "\r\n" in text else "\n"
    line = " " * first.start_mark.column + f"{key}: {value}"
    if text[at - 1] == "\n":  # behind a block scalar, which ends with its last line
        return f"{text[:at]}{line}{newline}{text[at:]}"
    at = text.find("\n", at)
    if at < 0:
        return f"{text}{newline}{line}{newline}"
    return f"{text[: at + 1]}{line}{newline}{text[at + 1 :]}"


def _flow(value: str, *, quoted: bool) -> str:
    """Write a word as JSON does where the rest is JSON."""
    return json.dumps(value) if quoted and value.isalpha() and value not in _TRUTHS else value


_TRUTHS = ("true", "false")


def _end(node: yaml.Node) -> int:
    """Tell where a node's text ends; the parser counts what comes after a block to it."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
