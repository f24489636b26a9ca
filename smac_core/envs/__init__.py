"""The environments: one definition each, driven by a Gymnasium class or by the batch simulator."""
