"""The live part: a server with real sockets, its clients, and the peers behind the same kind of rows."""
