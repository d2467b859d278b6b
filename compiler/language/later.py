"""Keys that stand elsewhere or come in a later version, and the sentences that refuse them.

Time windows are still to come; whoever builds them deletes their sentence here and gives the keys a
shape.
"""

_LATER = "comes in a later version of Tidegate; until then"

WINDOW = f"The time window (first N until T) {_LATER} write a percent, or lists, and set ends."
SWITCHES = "Switches stand in switches.yaml, beside workspace.yaml. Move them there."

_HALT = "halt stands in a release, beside its audience. Move it there."
_SAME_AS = "same_as is for switches. Write the audience out in each release."

IN_RELEASE = {"same_as": _SAME_AS}
IN_AUDIENCE = {**IN_RELEASE, "halt": _HALT, "first": WINDOW, "until": WINDOW, "pace": WINDOW}
_NO_SEATS = "A switch seats nobody. Write percent or lists, or name a release with same_as."
IN_SWITCH_AUDIENCE = dict.fromkeys(("first", "until", "pace"), _NO_SEATS)
IN_APP = {"halt": _HALT, "switches": SWITCHES}
IN_WORKSPACE = IN_APP
