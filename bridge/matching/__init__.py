"""Which weight goes to which place of a module, decided before any of them moves."""
