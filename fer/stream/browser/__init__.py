"""The browser page: the viewer's own camera, and uploads."""
