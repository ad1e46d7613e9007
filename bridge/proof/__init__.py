"""The parts of a proof: a layer's twin in float64, what is asked of it, and how the answers compare."""
