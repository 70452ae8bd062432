import * as api from "../api";
import type { CaseDetail } from "../api";
import type { CaseSource } from "../viewer";

/** Where the viewer takes a case's voxels from. Labels are all of one revision, so that slabs fit each other. */
export function caseSource(detail: CaseDetail): CaseSource {
  const { key, geometry, structures, image, layers, labelType, hasReference, revision } = detail;
  return {
    geometry,
    structures,
    windows: image.windows,
    image,
    layers,
    labelType,
    hasReference,
    hasModel: true,
    async imageSlab(from, to, signal) {
      return (await api.imageSlab(key, from, to, signal)).bytes;
    },
    async labelSlab({ kind, layer, from, to }, signal) {
      if (kind === "model") return (await api.modelSlab(key, { from, to, layer }, signal)).bytes;
      if (kind === "reference") return (await api.referenceSlab(key, { from, to, layer }, signal)).bytes;
      return (await api.labelSlab(key, { from, to, layer, revision }, signal)).bytes;
    },
    surface: (value, signal) => api.surface(key, value, signal),
  };
}
