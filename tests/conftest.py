"""What all tests share: how Hypothesis runs."""

from hypothesis import Phase, settings

# For test_mutations.py, which asks only whether a law fails: not by which smallest example.
settings.register_profile("noticing", phases=(Phase.explicit, Phase.generate))
