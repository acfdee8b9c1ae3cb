"""Keys on a real Ray."""
