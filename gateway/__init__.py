"""The gateway: stateless look-ups in compiled tables. It never imports the compiler."""

__version__ = "0.1.0"
