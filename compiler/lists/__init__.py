"""Allowlists: ids from files, hashed into the buckets that gateways look into."""
