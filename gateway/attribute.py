"""The attributes that a client may send, and how each one compares.

Text compares with case folded; versions compare as versions; a custom attribute, written
`custom.NAME`, is text, a number or true/false, as the client sent it. A value that is empty, of
another type, unreadable, or longer than VALUE_CHARS counts as not sent.
"""

TEXT = (
    "platform",
    "brand",
    "model",
    "network",
    "city",
    "region",
    "locale",
    "rom_version",
    "channel",
)
VERSIONS = ("os_version", "client_version", "installed")
BUILT_IN = (*TEXT, *VERSIONS)
CUSTOM = "custom."

VALUE_CHARS = 256
"""A longer attribute value counts as not sent, so that remembered values stay small."""
