"""What holds for a file of any format: it appears whole, carries a digest, and has names of a sane length."""
