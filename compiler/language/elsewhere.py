"""Keys that stand elsewhere than people look for them, and the sentences that say where."""

SWITCHES = "Switches stand in switches.yaml, beside workspace.yaml. Move them there."

_HALT = "halt stands in a release, beside its audience. Move it there."
_SAME_AS = "same_as is for switches. Write the audience out in each release."

IN_RELEASE = {"same_as": _SAME_AS}
IN_AUDIENCE = {**IN_RELEASE, "halt": _HALT}
_NO_SEATS = "A switch seats nobody. Write percent or lists, or name a release with same_as."
IN_SWITCH_AUDIENCE = dict.fromkeys(("first", "until", "pace"), _NO_SEATS)
IN_APP = {"halt": _HALT, "switches": SWITCHES}
IN_WORKSPACE = IN_APP
