"""What the verbs do, apart from how they are called and how they print."""
