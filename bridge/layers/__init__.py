"""What the numbers of one layer are: in Keras, in PyTorch, and how one becomes the other."""
