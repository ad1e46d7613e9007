"""What the commands have in common: how they end, what they are given, where their results go."""
