"""A release day rehearsed: real processes, a crowd of phones, pushes, and faults in its midst."""
