"""The demo as a new user meets it: its own process, its own database, real sockets."""
