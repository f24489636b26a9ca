"""The numbers of the arm and the scene; everything else here is computed from them.

Metres, radians, kilograms; z up, the arm's base at the origin, facing +x. Sources: the published
description of the arm (Rethink, BSD), and sawyer-env sections 1 and 5-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi


@dataclass(frozen=True)
class Joint:
    """One revolute joint and the link behind it.

    Args:
        alpha: Twist about x, rad (modified Denavit-Hartenberg: Rx(alpha) Tx(a) Rz(q+offset) Tz(d)).
        a: Length along x, m.
        d: Length along z, m.
        offset: Added to the joint angle, rad.
        lower: Limit of the angle, rad.
        upper: Limit of the angle, rad.
        effort: Limit of the torque, N·m.
        velocity: Limit of the speed, rad/s.
        mass: Of the link, kg.
        slide: How far the link's published frame lies before this one along z, m.
        com: Centre of mass in the published frame, m.
        shape: Collision shape: radius and length of a cylinder along z; length 0: a sphere, m.
        place: Centre of the shape in the published frame, m.
    """

    alpha: float
    a: float
    d: float
    offset: float
    lower: float
    upper: float
    effort: float
    velocity: float
    mass: float
    slide: float
    com: tuple[float, float, float]
    shape: tuple[float, float]
    place: tuple[float, float, float]


H = pi / 2.0
# The published arm, section 5.3: one row a joint.
ARM = (
    Joint(0.0, 0.0, 0.317, 0.0, -3.0503, 3.0503, 80.0, 1.74, 5.3213,
          0.237, (0.0244, 0.0110, 0.1436), (0.07, 0.0), (0.08, 0.0, 0.23)),
    Joint(-H, 0.081, 0.1925, H, -3.8183, 2.2824, 80.0, 1.328, 4.505,
          0.1425, (-0.0031, -0.0268, 0.0925), (0.07, 0.0), (0.0, 0.0, 0.1225)),
    Joint(H, 0.0, 0.4, 0.0, -3.0514, 3.0514, 40.0, 1.957, 1.7251,
          0.26, (-0.0002, -0.0153, 0.1344), (0.06, 0.35), (0.0, 0.0, 0.08)),
    Joint(-H, 0.0, -0.1685, 0.0, -3.0514, 3.0514, 40.0, 1.957, 2.4743,
          -0.1265, (-0.0047, -0.0284, -0.0831), (0.06, 0.0), (0.0, 0.0, -0.12)),
    Joint(H, 0.0, 0.4, 0.0, -2.9842, 2.9842, 9.0, 3.485, 1.0433,
          0.275, (-0.0028, 0.0077, 0.1327), (0.045, 0.36), (0.0, 0.0, 0.11)),
    Joint(-H, 0.0, 0.1363, 0.0, -2.9842, 2.9842, 9.0, 3.485, 1.5343,
          0.1053, (0.0062, -0.0243, 0.0756), (0.06, 0.0), (0.0, 0.0, 0.1)),
    Joint(H, 0.0, 0.1345, pi - 0.17453, -4.7104, 4.7104, 9.0, 4.545, 0.3292,
          0.0245, (0.0, 0.0086, -0.0050), (0.065, 0.05), (0.0, 0.0, -0.01)),
)  # fmt: skip
BASE_MASS = 2.0687
BASE_SHAPE = (0.08, 0.24)  # cylinder

# The gripper: a palm, two mirrored fingers, and the point between them that is the hand.
PALM = (0.06, 0.12, 0.05)  # box
FINGER = (0.016, 0.012, 0.09)  # box
FINGER_FRICTION = 1.5  # times that of the block
STROKE = 0.035  # of each finger: 0 is shut, and the clear opening is twice this
SITE = 0.125  # the hand, beyond the flange; the finger tips end 0.015 further

# Control, section 6.2: five ticks a step at 24 Hz; a step covers about 0.65 of the way it is given.
CONTROL_SECONDS = 1.0 / 24.0
TICKS = 5
SOLVER_ITERATIONS = 20
MOVE = 0.05  # m a step at full action, before the motors' lag
MOTOR_GAIN, MOTOR_FORCE = 0.2, 100.0
FINGER_GAIN, FINGER_FORCE = 0.2, 10.0
IK_DAMPING, IK_ITERATIONS, IK_RESIDUAL = 1e-3, 20, 1e-4
GRAVITY = -10.0

# The workspace of the hand, and how far beyond it an object may go before it is put back.
WORKSPACE_LOW, WORKSPACE_HIGH = (0.50, -0.20, -0.36), (0.85, 0.20, -0.10)
MARGIN = (0.045, 0.04, 0.15)
HAND_GOAL = (0.675, 0.0, -0.11)

TABLE_LOW, TABLE_HIGH = (0.25, -0.95, -0.425), (1.25, 0.55, -0.375)

# Drawers: a fixed shell, open at the front (local -y) and below, and a box that slides out of it.
DRAWER_X, DRAWER_Y = 0.6, 0.125  # y times the side
LOW_DRAWER_Z, HIGH_DRAWER_Z = -0.34, -0.22
SHELL = (0.1875, 0.1625, 0.075)
BOX = (0.175, 0.15, 0.056)
BOX_BOTTOM = -0.044  # of the box, below the middle of the shell
WALL, FLOOR = 0.006, 0.0125
TRAVEL = 0.15625
DRAWER_MASS, DRAWER_DAMPING, DRAWER_FRICTION = 0.3, 2.0, 0.5
BAR_RADIUS, BAR_LENGTH, BAR_AHEAD = 0.01, 0.175, 0.1375
PLATE = (0.00625, 0.075, 0.0225)
PLATE_X = 0.081
HOLD_FORCE = 2.0  # N, of the bottom drawer's motor at rest, and of the button's
DRIVE_FORCE, DRIVE_SPEED = 20.0, 1.0  # N, m/s, of the bottom drawer once the button has fired

BUTTON_Z = (-0.34, -0.25, -0.14)  # for 0, 1, 2 drawers
BUTTON_BASE = (0.1, 0.1, 0.025)
BUTTON_RIM = 0.005  # of the base's top below a cap that is pressed all the way: fingers miss it
CAP_RADIUS, CAP_HEIGHT, CAP_TRAVEL = 0.025, 0.0125, 0.0125
CAP_MASS = 0.05
FIRE_DEPTH = 0.01  # the cap's depth that fires the button

TRAY_SIDE, TRAY_WALL, TRAY_TOP = 0.175, 0.009, -0.306
TRAY_XY = ((0.60, -0.15), (0.60, 0.15), (0.79, -0.12), (0.79, 0.12))  # BL BR FL FR; y times side
OBJECT_XY = ((0.60, -0.15), (0.60, 0.15), (0.78, -0.12), (0.78, 0.12))
OBJECT, OBJECT_MASS, OBJECT_FRICTION = (0.04, 0.03, 0.04), 0.05, 0.5
LEGO, LEGO_MASS, LEGO_FRICTION = (0.0448, 0.0448, 0.0322), 0.1, 1.0
LEGO_X, LEGO_X_OPEN = 0.59, 0.75
HAND_START = (0.6, -0.15, -0.2)  # y times the side
HAND_START_OPEN_Z = -0.15  # above the bar of a drawer that starts open
# From where the start configuration is solved, one a side, so that no episode bends another elbow.
ARM_SEEDS = {
    1: (-0.69, -0.34, 0.32, 1.47, -0.61, 0.55, 0.14),
    -1: (-0.20, -0.34, 0.31, 1.47, -0.60, 0.54, 0.62),
}
