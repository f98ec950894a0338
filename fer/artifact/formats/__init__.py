"""One file for each format of an exported model."""
