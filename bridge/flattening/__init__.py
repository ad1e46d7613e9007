"""Which weights stand behind a Flatten or in front of a Reshape, and the map that was flattened."""
