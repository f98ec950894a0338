"""What is drawn on frames and beside them."""
