"""What of jobs is pure: edits and the formats that only jobs have."""
