"""The page at `/`: plain files that use the public API and nothing else."""
