"""What is live, who serves it, and what becomes of each release: read only."""
