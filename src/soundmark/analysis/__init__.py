"""What was measured, and the collections it was measured on, looked at: ablations, maps, neighbours, similarity."""
