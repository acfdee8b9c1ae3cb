"""The endpoints of jobs, over a real database and a worker whose recogniser is played."""
