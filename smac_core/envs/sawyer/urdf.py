"""URDF texts of the arm and of the articulated objects, generated from the number tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smac_core.envs.sawyer import tables as t
from smac_core.envs.sawyer.kinematics import joint_origin, roll_pitch_yaw

Vector = Sequence[float] | np.ndarray
ORIGIN = (0.0, 0.0, 0.0)
GREY, RED, BLUE, WOOD, GREEN = (
    *((0.35, 0.35, 0.4, 1.0), (0.6, 0.1, 0.1, 1.0), (0.15, 0.3, 0.6, 1.0)),
    *((0.7, 0.5, 0.3, 1.0), (0.2, 0.55, 0.3, 1.0)),
)


@dataclass(frozen=True)
class Shape:
    """A box (three lengths), a cylinder along z (radius, length) or a sphere (radius, 0), in m."""

    size: Vector
    place: Vector = ORIGIN
    turn: Vector = ORIGIN


def _numbers(values: Vector) -> str:
    return " ".join(repr(float(v)) for v in values)


def _origin(place: Vector, turn: Vector = ORIGIN) -> str:
    return f'<origin xyz="{_numbers(place)}" rpy="{_numbers(turn)}"/>'


def _geometry(size: Vector) -> str:
    if len(size) == 3:
        return f'<box size="{_numbers(size)}"/>'
    radius, length = size
    if length == 0.0:
        return f'<sphere radius="{radius!r}"/>'
    return f'<cylinder radius="{radius!r}" length="{length!r}"/>'


def link(
    name: str, shapes: Sequence[Shape], mass: float, color: Vector, com: Vector = ORIGIN
) -> str:
    """Write one link; PyBullet computes its inertia from its shapes.

    Args:
        name: Of the link.
        shapes: What collides and what is drawn.
        mass: kg; 0 is fixed to the world.
        color: Red, green, blue, opacity.
        com: Centre of mass, m.

    Returns:
        XML.
    """
    parts = [
        f'<inertial>{_origin(com)}<mass value="{mass!r}"/>'
        '<inertia ixx="0.001" ixy="0" ixz="0" iyy="0.001" iyz="0" izz="0.001"/></inertial>'
    ]
    for shape in shapes:
        inside = f"{_origin(shape.place, shape.turn)}<geometry>{_geometry(shape.size)}</geometry>"
        paint = f'<material name="{name}"><color rgba="{_numbers(color)}"/></material>'
        parts += [f"<visual>{inside}{paint}</visual>", f"<collision>{inside}</collision>"]
    return f'<link name="{name}">{"".join(parts)}</link>'


@dataclass(frozen=True)
class Slide:
    """Limits and losses of a sliding joint: m, N, m/s."""

    lower: float
    upper: float
    force: float = 100.0
    velocity: float = 10.0
    damping: float = 0.0
    friction: float = 0.0


def joint(
    names: tuple[str, str, str],
    place: Vector,
    turn: Vector = ORIGIN,
    axis: Vector = (0.0, 0.0, 1.0),
    limits: Slide | t.Joint | None = None,
) -> str:
    """Write one joint.

    Args:
        names: Of the joint, of the link before it and of the link behind it.
        place: In the frame of the link before it, m.
        turn: Roll, pitch, yaw, rad.
        axis: Along which it slides or about which it turns.
        limits: Of a sliding or a turning joint; None: fixed.

    Returns:
        XML.
    """
    kind, rest = "fixed", ""
    if limits is not None:
        kind = "revolute" if isinstance(limits, t.Joint) else "prismatic"
        force = limits.effort if isinstance(limits, t.Joint) else limits.force
        rest = (
            f'<axis xyz="{_numbers(axis)}"/><limit lower="{limits.lower!r}"'
            f' upper="{limits.upper!r}" effort="{force!r}" velocity="{limits.velocity!r}"/>'
        )
        if isinstance(limits, Slide):
            rest += f'<dynamics damping="{limits.damping!r}" friction="{limits.friction!r}"/>'
    name, parent, child = names
    return (
        f'<joint name="{name}" type="{kind}">{_origin(place, turn)}'
        f'<parent link="{parent}"/><child link="{child}"/>{rest}</joint>'
    )


def _robot(name: str, parts: Sequence[str]) -> str:
    return f'<?xml version="1.0"?>\n<robot name="{name}">\n' + "\n".join(parts) + "\n</robot>\n"


def arm() -> str:
    """Write the arm with its gripper: seven turning joints, then the two fingers.

    Returns:
        XML; the link ``hand`` is the point that is steered.
    """
    radius, length = t.BASE_SHAPE
    parts = [link("base", [Shape((radius, length), (0.0, 0.0, -0.5 * length))], t.BASE_MASS, GREY)]
    for number, row in enumerate(t.ARM):
        place, turn = joint_origin(number)
        before = "base" if number == 0 else f"link{number - 1}"
        names = (f"joint{number}", before, f"link{number}")
        parts.append(joint(names, place, roll_pitch_yaw(turn), limits=row))
        back = np.array([0.0, 0.0, row.slide])
        shape = Shape(row.shape, np.array(row.place) - back)
        parts.append(link(f"link{number}", [shape], row.mass, RED, np.array(row.com) - back))
    parts.append(joint(("palm", "link6", "palm"), (0.0, 0.0, 0.5 * t.PALM[2])))
    parts.append(link("palm", [Shape(t.PALM)], 0.3, GREY))
    for name, sign in (("left", 1.0), ("right", -1.0)):
        spot = (0.0, sign * 0.5 * t.FINGER[1], 0.5 * (t.PALM[2] + t.FINGER[2]))
        names = (f"{name}_slide", "palm", f"{name}_finger")
        limits = Slide(0.0, t.STROKE, force=t.FINGER_FORCE)
        parts.append(joint(names, spot, axis=(0.0, sign, 0.0), limits=limits))
        parts.append(link(f"{name}_finger", [Shape(t.FINGER)], 0.05, GREY))
    parts.append(joint(("site", "palm", "hand"), (0.0, 0.0, t.SITE - 0.5 * t.PALM[2])))
    parts.append(link("hand", [], 0.001, GREY))
    return _robot("sawyer", parts)


def drawer(*, handle: bool) -> str:
    """Write a drawer: its shell stays, its box slides along local -y.

    Args:
        handle: Whether a bar stands before the box.

    Returns:
        XML.
    """
    width, depth, height = t.SHELL
    wall = t.WALL
    shell = [
        Shape((width, depth, wall), (0.0, 0.0, 0.5 * (height - wall))),
        Shape((width, wall, height - wall), (0.0, 0.5 * (depth - wall), -0.5 * wall)),
        *(
            Shape((wall, depth, height - wall), (side * 0.5 * (width - wall), 0.0, -0.5 * wall))
            for side in (-1.0, 1.0)
        ),
    ]
    box = _drawer_box()
    if handle:
        bar = (0.0, -t.BAR_AHEAD, 0.0)
        box.append(Shape((t.BAR_RADIUS, t.BAR_LENGTH), bar, (0.0, t.H, 0.0)))
        middle = -t.BAR_AHEAD + 0.5 * t.PLATE[1]
        box += [Shape(t.PLATE, (side * t.PLATE_X, middle, 0.0)) for side in (-1.0, 1.0)]
    slide = Slide(
        0.0, t.TRAVEL, damping=t.DRAWER_DAMPING, friction=t.DRAWER_FRICTION, velocity=10.0
    )
    parts = [
        link("shell", shell, 0.0, WOOD),
        joint(("slide", "shell", "box"), ORIGIN, axis=(0.0, -1.0, 0.0), limits=slide),
        link("box", box, t.DRAWER_MASS, BLUE if handle else GREEN),
    ]
    return _robot("drawer", parts)


def _drawer_box() -> list[Shape]:
    width, depth, height = t.BOX
    wall, floor = t.WALL, t.FLOOR
    tall, middle = height - floor, t.BOX_BOTTOM + 0.5 * (height + floor)
    return [
        Shape((width, depth, floor), (0.0, 0.0, t.BOX_BOTTOM + 0.5 * floor)),
        *(
            Shape((wall, depth, tall), (side * 0.5 * (width - wall), 0.0, middle))
            for side in (-1.0, 1.0)
        ),
        *(
            Shape((width - 2 * wall, wall, tall), (0.0, side * 0.5 * (depth - wall), middle))
            for side in (-1.0, 1.0)
        ),
    ]


def button() -> str:
    """Write the button: a cap that sinks into its base and stays there.

    Returns:
        XML.
    """
    width, depth, height = t.BUTTON_BASE
    base = Shape((width, depth, height - t.BUTTON_RIM), (0.0, 0.0, -0.5 * t.BUTTON_RIM))
    above = 0.5 * height + 0.5 * t.CAP_HEIGHT
    parts = [
        link("base", [base], 0.0, GREY),
        joint(("press", "base", "cap"), (0.0, 0.0, above), limits=Slide(-t.CAP_TRAVEL, 0.0)),
        link("cap", [Shape((t.CAP_RADIUS, t.CAP_HEIGHT))], t.CAP_MASS, RED),
    ]
    return _robot("button", parts)


def tray() -> str:
    """Write the tray: four walls on the table, its origin on the table's top.

    Returns:
        XML.
    """
    side, wall = t.TRAY_SIDE, t.TRAY_WALL
    tall = t.TRAY_TOP - t.TABLE_HIGH[2]
    off = 0.5 * (side - wall)
    walls = [
        *(Shape((wall, side, tall), (s * off, 0.0, 0.5 * tall)) for s in (-1.0, 1.0)),
        *(Shape((side, wall, tall), (0.0, s * off, 0.5 * tall)) for s in (-1.0, 1.0)),
    ]
    return _robot("tray", [link("tray", walls, 0.0, BLUE)])


def all_files() -> dict[str, str]:
    """Write every URDF.

    Returns:
        File name to XML.
    """
    return {
        "arm.urdf": arm(),
        "drawer.urdf": drawer(handle=False),
        "handle_drawer.urdf": drawer(handle=True),
        "button.urdf": button(),
        "tray.urdf": tray(),
    }
