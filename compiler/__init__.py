"""The compiler: release plans in, small immutable tables out."""
