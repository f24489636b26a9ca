"""The belief's update at the paper's size: 32 trajectories of 600 steps in less than 1 GB.

By the process's own high-water mark: ``ru_maxrss`` begins with that of the process which forked it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

UPDATE = """
import re
from pathlib import Path
import numpy as np, torch
from smac_core.borel.config import BeliefConfig
from smac_core.borel.trajectories import draw_latent_steps
from smac_core.borel.vae import BeliefVae, TrajectoryBatch, trajectory_losses
from smac_core.networks import Shapes

torch.set_num_threads(1)
config, rng = BeliefConfig(decode="reward"), np.random.default_rng(0)
num, steps = config.num_tasks * config.trajectories_per_task, 600

def draw(*shape):
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

vae = BeliefVae(Shapes(20, 6), config, 0)
latents, weight = draw_latent_steps(np.full(num, steps), config.latents_per_trajectory, rng)
batch = TrajectoryBatch(
    draw(num, steps, 20), draw(num, steps, 6), draw(num, steps), draw(num, steps, 20),
    torch.full((num,), steps), torch.from_numpy(latents), torch.from_numpy(weight),
    draw(*latents.shape, config.latent_dim),
)
sum(trajectory_losses(vae, batch).values()).backward()
status = Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux")
def test_an_update_on_600_steps_stays_below_a_gigabyte():
    done = subprocess.run(
        [sys.executable, "-c", UPDATE], capture_output=True, text=True, check=True
    )
    print(f"\npeak of the whole process, torch and all: {done.stdout.strip()} MiB")
    assert int(done.stdout) < 1000
