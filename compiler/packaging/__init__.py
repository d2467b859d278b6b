"""Packages: folders and tarballs to deterministic archives, and those into the store."""
