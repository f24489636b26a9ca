"""Sawyer Manipulation: a simulated arm, drawers, a button, a tray and blocks, in PyBullet."""
