"""Load tests: they speak HTTP to a running gateway and import neither package."""
