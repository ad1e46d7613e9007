"""Keras's files of every age, each read into the one shape all else uses."""
