"""The commands of `tidegate`: each reads its options, calls what does the work, and tells."""
