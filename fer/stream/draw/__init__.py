"""What is drawn on frames."""
