"""Patches: binary differences between the installed files of two versions of an app."""
