"""What jobs are made of: their types, where their objects lie, and edited texts."""
