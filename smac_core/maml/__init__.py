"""Meta-learning by gradient: one MAML engine, and the methods that are choices of its losses."""
