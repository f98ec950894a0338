"""Drawing on frames and beside them."""
