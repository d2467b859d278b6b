"""Keys that stand elsewhere or come in a later version, and the sentences that refuse them.

Halting is still to come; whoever builds it deletes its sentence here and gives the key a shape.
"""

_LATER = "comes in a later version of Tidegate; until then"

SWITCHES = "Switches stand in switches.yaml, beside workspace.yaml. Move them there."

_HALT = f"Halting by itself {_LATER} write state: paused to stop a release."
_SAME_AS = "same_as is for switches. Write the audience out in each release."

IN_RELEASE = {"halt": _HALT, "same_as": _SAME_AS}
IN_AUDIENCE = IN_RELEASE
_NO_SEATS = "A switch seats nobody. Write percent or lists, or name a release with same_as."
IN_SWITCH_AUDIENCE = dict.fromkeys(("first", "until", "pace"), _NO_SEATS)
IN_APP = {"halt": _HALT, "switches": SWITCHES}
IN_WORKSPACE = IN_APP
