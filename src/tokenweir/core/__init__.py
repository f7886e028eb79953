"""The pure part: no clock, socket, file, environment, thread or log. Everything comes in as an argument."""
