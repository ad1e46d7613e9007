"""What a command needs beside the bridge: a module by its name, text for a terminal, an end by a signal."""
