import type { CaseSource, Viewer } from "./source";
import { View } from "./view";
import "./viewer.css";

export { VIEWER_KEYS, VIEWER_MOUSE } from "./keys";
export type { CaseSource, KeyHelp, LabelKind, LabelSlabOf, MeasureKind, Progress, Viewer } from "./source";

/**
 * Shows a case in `host`, whose content it replaces. Resolves at once, before voxels have arrived; they are drawn as
 * they come. Throws RangeError where the geometry has no voxels or the affine cannot be inverted.
 */
export async function createCaseView(host: HTMLElement, source: CaseSource): Promise<Viewer> {
  checkGeometry(source);
  return new View(host, source);
}

function checkGeometry({ geometry: { shape, affine } }: CaseSource): void {
  if (!shape.every((size) => Number.isInteger(size) && size > 0)) {
    throw new RangeError(`A scan of ${shape.join(" x ")} voxels cannot be shown.`);
  }
  const [a, b, c] = affine.slice(0, 3) as [number[], number[], number[]];
  const determinant =
    a[0]! * (b[1]! * c[2]! - b[2]! * c[1]!) -
    a[1]! * (b[0]! * c[2]! - b[2]! * c[0]!) +
    a[2]! * (b[0]! * c[1]! - b[1]! * c[0]!);
  if (!(Math.abs(determinant) > 1e-12)) {
    throw new RangeError("The scan's geometry is flat: its axes do not span a volume.");
  }
}
