"""What layers are called: naming schemes of published networks, automatic names, and pairing by order."""
