"""The method: environments, networks, losses, learner; it opens no file and prints nothing."""
