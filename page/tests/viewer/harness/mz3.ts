/** A sphere as MZ3 (magic 23117, attributes 3: faces and vertices), LPS turned into RAS as the server does. */

import type { Triple } from "../../../src/contract";

export function ellipsoid(centre: Triple, radii: Triple): ArrayBuffer {
  const [around, up] = [48, 24];
  const points: number[] = [];
  const faces: number[] = [];
  for (let v = 0; v <= up; v++) {
    for (let u = 0; u < around; u++) {
      const [polar, turn] = [(Math.PI * v) / up, (2 * Math.PI * u) / around];
      const unit = [Math.sin(polar) * Math.cos(turn), Math.sin(polar) * Math.sin(turn), Math.cos(polar)];
      const lps = unit.map((value, axis) => centre[axis]! + value * radii[axis]!);
      points.push(-lps[0]!, -lps[1]!, lps[2]!);
      if (v === up) continue;
      const next = (u + 1) % around;
      const [a, b, c, d] = [v * around + u, v * around + next, (v + 1) * around + u, (v + 1) * around + next];
      faces.push(a, c, b, b, c, d);
    }
  }
  const bytes = new ArrayBuffer(16 + faces.length * 4 + points.length * 4);
  const view = new DataView(bytes);
  view.setUint16(0, 23117, true);
  view.setUint16(2, 3, true);
  view.setUint32(4, faces.length / 3, true);
  view.setUint32(8, points.length / 3, true);
  faces.forEach((face, n) => view.setUint32(16 + n * 4, face, true));
  points.forEach((value, n) => view.setFloat32(16 + faces.length * 4 + n * 4, value, true));
  return bytes;
}
