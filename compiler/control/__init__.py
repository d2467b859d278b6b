"""What watches over a workspace by itself: refills, guardrails, and the lease of who may."""
