"""Load tests: what a running gateway does under load, and what its parts cost."""
