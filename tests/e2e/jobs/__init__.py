"""Jobs on a real Ray, over HTTP."""
