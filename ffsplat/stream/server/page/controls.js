// Mouse, touch and keys move a camera.

const TURN = 0.006; // radians a pixel
const STEP = 0.08; // radians, or parts of the distance, a key

const KEYS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** Let `canvas` move `camera`; `moved` is called after each move by hand. */
export function control(canvas, camera, moved) {
  const pointers = new Map();

  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const [x, y] = [now[0] - before[0], now[1] - before[1]];
    if (pointers.size === 2) pinch(camera, canvas, pointers, event.pointerId, now);
    else if (event.shiftKey || event.buttons & 6) drag(camera, canvas, x, y);
    else camera.orbit(-TURN * x, TURN * y);
    pointers.set(event.pointerId, now);
    moved();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
      camera.zoom(Math.exp(-0.0015 * Math.max(-400, Math.min(400, pixels))));
      moved();
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !press(camera, event)) return;
    event.preventDefault();
    moved();
  });
}

/** The point under the pointer stays under it, as far as it is as far away as the target. */
function drag(camera, canvas, x, y) {
  const size = 0.6 * Math.max(canvas.clientWidth, canvas.clientHeight);
  camera.pan(-x / size, -y / size);
}

/** Two fingers: their middle drags, their distance zooms. */
function pinch(camera, canvas, pointers, moving, now) {
  const [other] = [...pointers].filter(([id]) => id !== moving).map(([, at]) => at);
  const before = pointers.get(moving);
  const apart = (at) => Math.max(10, Math.hypot(at[0] - other[0], at[1] - other[1]));
  camera.zoom(apart(now) / apart(before));
  drag(camera, canvas, (now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
}

/** Whether a key moves the camera. */
function press(camera, event) {
  const arrow = KEYS[event.key];
  if (arrow && event.shiftKey) camera.pan(STEP * arrow[0], STEP * arrow[1]);
  else if (arrow) camera.orbit(STEP * arrow[0], -STEP * arrow[1]);
  else if (event.key === "+" || event.key === "=") camera.zoom(1.15);
  else if (event.key === "-") camera.zoom(1 / 1.15);
  else return false;
  return true;
}
