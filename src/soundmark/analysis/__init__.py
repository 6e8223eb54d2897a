"""What was measured, looked at: ablations."""
