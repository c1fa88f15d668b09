"""For views of REST framework."""
