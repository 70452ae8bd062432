/** The labels of a case by whose they are: what is edited, the reference, the model's own. */

import { load } from "./loading";
import type { CaseSource, LabelKind } from "./source";
import { labelStore, type FillableLabels } from "./stores";

/** One kind's layers. Nothing is fetched before `start`. */
export interface LabelSet {
  readonly kind: LabelKind;
  readonly layers: ReadonlyMap<number, FillableLabels>;
  /** Fetches what has not arrived; a second call while it goes on changes nothing. */
  start(): Promise<void>;
  started(): boolean;
  /** Share of the slices that have arrived. */
  share(): number;
}

export interface LabelLoading {
  focus: () => number;
  signal: AbortSignal;
  arrived: (kind: LabelKind, from: number, to: number) => void;
  failed: (problem: unknown) => void;
}

export function labelSet(source: CaseSource, kind: LabelKind, loading: LabelLoading): LabelSet {
  const { geometry, labelType } = source;
  const layers = new Map<number, FillableLabels>();
  let going: Promise<void> | null = null;
  const sliceBytes = geometry.shape[0] * geometry.shape[1] * (labelType === "uint8" ? 1 : 2);

  const fetchAll = async (): Promise<void> => {
    for (const [layer, store] of layers) {
      await load({
        store,
        sliceBytes,
        parallel: 1,
        focus: loading.focus,
        signal: loading.signal,
        fetch: ({ from, to }, signal) => source.labelSlab({ kind, layer, from, to }, signal),
        arrived: ({ from, to }) => loading.arrived(kind, from, to - 1),
      });
    }
  };

  return {
    kind,
    layers,
    start() {
      if (layers.size === 0) for (const layer of source.layers) layers.set(layer, labelStore(geometry, labelType));
      going ??= fetchAll()
        .catch(loading.failed)
        .finally(() => (going = null));
      return going;
    },
    started: () => layers.size > 0,
    share() {
      const flags = [...layers.values()].flatMap((store) => [...store.loaded]);
      return flags.length === 0 ? 0 : flags.filter(Boolean).length / flags.length;
    },
  };
}
