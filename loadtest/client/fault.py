"""What goes wrong between a gateway, a CDN and a phone, as one exception."""


class UnusableError(Exception):
    """An answer, a download, a signature or a key that cannot be used.

    Its sentence says why; it begins without a capital and ends without a full stop.
    """
