"""The machine room: instances that operators look after."""
