"""What the plan language will know in a later version, and the sentences that refuse it now.

Switches and halting are still to come; whoever builds one deletes its sentence here and gives the
keys a shape.
"""

_LATER = "comes in a later version of Tidegate; until then"

SWITCHES = (
    "Switches come in a later version of Tidegate; until then move switches.yaml out of the plan."
)

_HALT = f"Halting by itself {_LATER} write state: paused to stop a release."
_SAME_AS = f"same_as {_LATER} write the audience out in each release."

IN_RELEASE = {"halt": _HALT, "same_as": _SAME_AS}
IN_AUDIENCE = IN_RELEASE
IN_APP = {"halt": _HALT, "switches": SWITCHES}
IN_WORKSPACE = IN_APP
