"""Jobs on real Ray: killed processes, both databases, large uploads."""
