"""The policy: its file, its model, what is wrong with it, and what it says of a class."""
