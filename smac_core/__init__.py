"""The method: environments, networks, losses and the learner; it opens no file and prints nothing."""
