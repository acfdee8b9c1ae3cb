"""Jobs on real Ray."""
