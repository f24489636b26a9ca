"""Guided Meta-Policy Search: policy gradient inside, imitation of experts outside; and MAML-PG."""
