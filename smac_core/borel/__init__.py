"""BOReL: a recurrent belief over tasks, learnt from offline trajectories, and SAC on top of it."""
