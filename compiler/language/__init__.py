"""The plan language: files to a checked Plan, and every fault with its place and mend."""
